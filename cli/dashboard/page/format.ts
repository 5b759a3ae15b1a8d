// SPDX-License-Identifier: Apache-2.0
// Numbers and times as people read them.

import type { GraphEdge, Security } from '../view.ts'

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB']
const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** Two digits that count, no more. */
export function amount(value: number): string {
  if (value === 0) return '0'
  if (value < 0.1) return '<0.1'
  return value < 10 ? String(Math.round(value * 10) / 10) : Math.round(value).toLocaleString('en')
}

/** Bytes with a unit. */
export function bytes(value: number): string {
  let unit = 0
  let rest = value
  while (rest >= 1_000 && unit < UNITS.length - 1) {
    rest /= 1_000
    unit += 1
  }
  return `${amount(rest)} ${UNITS[unit] ?? ''}`
}

/** How long it is until or since then. */
export function span(ms: number): string {
  const length = Math.abs(ms)
  if (length < MINUTE) return `${Math.round(length / 1_000)} s`
  if (length < HOUR) return `${Math.round(length / MINUTE)} min`
  if (length < 2 * DAY) return `${Math.round(length / HOUR)} h`
  return `${Math.round(length / DAY)} days`
}

/** In the reader's own time zone. */
export function clock(at: number): string {
  return new Date(at).toLocaleTimeString()
}

/** Date and time. */
export function moment(at: number): string {
  return new Date(at).toLocaleString()
}

export const SECURITY_WORDS: Readonly<Record<Security, string>> = {
  mutual_tls: 'mutual TLS',
  node_local: 'inside the node',
  plaintext: 'plaintext',
  unused: 'no connection',
}

/** What goes over an edge, in a line. */
export function traffic({ rates }: Pick<GraphEdge, 'rates'>): string {
  const { connections, requestBytes, responseBytes, requests } = rates
  const asked = requests > 0 ? `${amount(requests)} requests/s, ` : ''
  return `${asked}${amount(connections)} conn/s, ${bytes(requestBytes + responseBytes)}/s`
}

/** Counted in words: `1 pod`, `2 pods`. */
export function plural(count: number, word: string): string {
  return `${count.toLocaleString('en')} ${word}${count === 1 ? '' : 's'}`
}
