// SPDX-License-Identifier: Apache-2.0
// Which lines of a log pass, and how loud each part of each agent is.

import { parseJson } from '../../mesh/json.ts'
import { byTexts, type Table } from './table.ts'

/** Whether a line, of either format, is of the part and contains the text. */
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
    if (!line.startsWith('{')) return line.split('\t', 3)[2] === part
    const json = parseJson(line)
    if (!json.ok || typeof json.value !== 'object' || json.value === null) return false
    const { part: named, component } = json.value as { part?: unknown; component?: unknown }
    return (named ?? component) === part
  }
}

/** Which connections have an access line, a node a row. */
export function accessTable(
  told: readonly { readonly node: string; readonly levels: unknown }[],
): Table {
  return {
    heading: ['NODE', 'SAMPLE', 'FILTER'],
    rows: told
      .map(({ node, levels }) => {
        const { filter, sample } = levels as { filter?: unknown; sample?: unknown }
        return [node, String(sample ?? ''), typeof filter === 'string' ? filter : 'None']
      })
      .toSorted(byTexts((row) => row)),
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
