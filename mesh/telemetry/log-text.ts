// SPDX-License-Identifier: Apache-2.0
// Log lines for people: time, level, part and message in columns, then the fields, as Istio's ztunnel writes them. Made of the line that
// the format JSON has, so both say the same; who reads logs by the million takes JSON.

import { parseJson } from '../json.ts'

/** Fields that ztunnel writes without quotes. */
const BARE: ReadonlySet<string> = new Set(['src.addr', 'dst.addr', 'dst.hbone_addr'])

/** Takes a logger's lines of JSON, and writes text. */
export function textStream(write: (line: string) => void): { write(line: string): void } {
  return { write: (line) => write(textOf(line)) }
}

/** A line as text; one that is no JSON object stays as it is. */
function textOf(line: string): string {
  const json = parseJson(line)
  if (!json.ok || typeof json.value !== 'object' || json.value === null) return line
  const { level, time, component, part, msg, ...fields } = json.value as Record<string, unknown>
  const columns = [time, level, part ?? component, msg ?? ''].map(String)
  const rest = Object.entries(fields).map(([name, value]) => `${name}=${valueOf(name, value)}`)
  return `${[...columns, rest.join(' ')].join('\t').trimEnd()}\n`
}

function valueOf(name: string, value: unknown): string {
  // JSON's quotes and escapes: a line stays one line, whatever somebody calls himself.
  return typeof value === 'string' && BARE.has(name) ? value : JSON.stringify(value)
}
