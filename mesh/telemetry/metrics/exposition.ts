// SPDX-License-Identifier: Apache-2.0
// Metrics as text, for Prometheus to scrape: its own format, and OpenMetrics for who asks for that.

import type { MetricFamily, MetricSample } from './family.ts'

export type TextFormat = 'prometheus' | 'openMetrics'

export const CONTENT_TYPES: Readonly<Record<TextFormat, string>> = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openMetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
}

/** Characters of a piece: enough that handing one on costs little, few enough that other work comes in between. */
const PIECE_LENGTH = 64 * 1024

const TOTAL = '_total'

/** The format that an Accept header asks for. */
export function acceptedFormat(accept: string | undefined): TextFormat {
  return accept?.includes('application/openmetrics-text') === true ? 'openMetrics' : 'prometheus'
}

/** Writes families in pieces; who takes them by turns lets others have the thread in between. */
export function* exposition(
  families: readonly MetricFamily[],
  format: TextFormat,
): Generator<string, void, undefined> {
  let piece = ''
  for (const family of families) {
    piece += heading(family, format)
    for (const sample of family.samples) {
      piece += line(sample)
      if (piece.length < PIECE_LENGTH) continue
      yield piece
      piece = ''
    }
  }
  if (format === 'openMetrics') piece += '# EOF\n'
  if (piece !== '') yield piece
}

function heading({ name, help, type }: MetricFamily, format: TextFormat): string {
  // OpenMetrics names a counter without the suffix that all its samples have.
  const isCounter = type === 'counter' && format === 'openMetrics'
  const named = isCounter && name.endsWith(TOTAL) ? name.slice(0, -TOTAL.length) : name
  const told = isCounter && named === name ? 'unknown' : type
  return `# HELP ${named} ${escapeHelp(help, format)}\n# TYPE ${named} ${told}\n`
}

function escapeHelp(help: string, format: TextFormat): string {
  const escaped = help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
  return format === 'openMetrics' ? escaped.replaceAll('"', '\\"') : escaped
}

function line({ name, labels, value }: MetricSample): string {
  return labels === '' ? `${name} ${numeral(value)}\n` : `${name}{${labels}} ${numeral(value)}\n`
}

function numeral(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf'
  return value === Number.NEGATIVE_INFINITY ? '-Inf' : String(value)
}
