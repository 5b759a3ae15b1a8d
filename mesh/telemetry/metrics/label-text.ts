// SPDX-License-Identifier: Apache-2.0
// Labels as Prometheus writes them between braces. A series is kept by this text: it is its key, and what a scrape writes.

const NEEDS_ESCAPE = /[\\"\n]/
const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '"': '\\"', '\n': '\\n' }
const UNESCAPES: Readonly<Record<string, string>> = { '\\\\': '\\', '\\"': '"', '\\n': '\n' }
const PAIR = /([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)",?/gy

/** Writes labels, in their order. */
export function labelText(labels: Readonly<Record<string, string | number | undefined>>): string {
  let text = ''
  for (const name in labels) {
    const value = String(labels[name] ?? '')
    const escaped = NEEDS_ESCAPE.test(value)
      ? value.replaceAll(/[\\"\n]/g, (character) => ESCAPES[character] ?? character)
      : value
    text += `${text === '' ? '' : ','}${name}="${escaped}"`
  }
  return text
}

/** Reads what labelText() has written. */
export function parseLabelText(text: string): readonly (readonly [name: string, value: string])[] {
  const pairs: (readonly [string, string])[] = []
  for (const [, name = '', value = ''] of text.matchAll(PAIR))
    pairs.push([
      name,
      value.includes('\\')
        ? value.replaceAll(/\\[\\"n]/g, (escape) => UNESCAPES[escape] ?? escape)
        : value,
    ])
  return pairs
}
