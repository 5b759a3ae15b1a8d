// SPDX-License-Identifier: Apache-2.0
// Which lines of a log pass, and how loud each part of each agent is.

import { parseJson } from '../../mesh/json.ts'
import { byTexts, type Table } from './table.ts'

/** Whether a line is of the part and contains the text; lines that are no JSON are of no part. */
export function logFilter({
  part,
  grep,
}: {
  readonly part: string | undefined
  readonly grep: string | undefined
}): (line: string) => boolean {
  return (line) => {
    if (grep !== undefined && !line.includes(grep)) return false
    if (part === undefined) return true
    const json = parseJson(line)
    if (!json.ok || typeof json.value !== 'object' || json.value === null) return false
    const { part: named, component } = json.value as { part?: unknown; component?: unknown }
    return (named ?? component) === part
  }
}

/** A part a row, a node a column. */
export function levelTable(
  told: readonly { readonly node: string; readonly levels: unknown }[],
): Table {
  const columns = told.map(({ levels }) => partsOf(levels))
  const parts = [...new Set(columns.flatMap((column) => [...column.keys()]))]
  return {
    heading: ['PART', ...told.map(({ node }) => node.toUpperCase())],
    rows: parts
      .map((part) => [part, ...columns.map((column) => column.get(part) ?? '')])
      .toSorted(byTexts((row) => row)),
  }
}

function partsOf(levels: unknown): ReadonlyMap<string, string> {
  const parts: unknown =
    typeof levels === 'object' && levels !== null && 'parts' in levels ? levels.parts : {}
  return new Map(
    Object.entries(typeof parts === 'object' && parts !== null ? parts : {}).map(
      ([part, level]) => [part, String(level)],
    ),
  )
}
