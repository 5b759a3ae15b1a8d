// SPDX-License-Identifier: Apache-2.0
// The chart's values by their schema, one by one.

import { readFileSync } from 'node:fs'
import type { Values } from '../../daemonset/render/values.ts'

export interface Schema {
  readonly type?: string
  readonly description?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: unknown
}

const SCHEMA = new URL('../../daemonset/chart/values.schema.json', import.meta.url)

/** Every value that holds no values itself, by its path; but for global, which is a chart's above this one. */
export function schemaLeaves(): readonly (readonly [readonly string[], Schema])[] {
  const schema = JSON.parse(readFileSync(SCHEMA, 'utf8')) as Schema
  return leaves(schema, []).filter(([[first]]) => first !== 'global')
}

function leaves(
  of: Schema,
  path: readonly string[],
): readonly (readonly [readonly string[], Schema])[] {
  return Object.entries(of.properties ?? {}).flatMap(([name, each]) =>
    each.properties === undefined
      ? [[[...path, name], each] as const]
      : leaves(each, [...path, name]),
  )
}

/** The values that have this one at that path, and no other. */
export function valuesAt(path: readonly string[], value: unknown): Values {
  return path.reduceRight<unknown>((inner, name) => ({ [name]: inner }), value) as Values
}
