// SPDX-License-Identifier: Apache-2.0
// Which policies select a workload by its labels, without looking at all policies. Selectors of an area that name the same labels
// are of one shape, and there are few shapes; for each of them the workload's own values are a key under which the policies that
// ask for exactly these lie. So a policy's change concerns the workloads that it selects, or did, and costs no more than they do.

import type { Collection, Fetch, Graph } from '../../mesh/collections/index.ts'
import type { Area } from './placed-policy.ts'

/** What has a place among workloads. */
export interface Selectable {
  readonly area: Area
  /** In the order of keys; undefined when all of the area are meant. */
  readonly selector: ReadonlyMap<string, string> | undefined
}

/** Asks a collection what of it concerns a workload. */
export interface Selection<V> {
  /** The shapes of an area's selectors: what has to be known of the area to look for its policies. */
  readonly shapes: (fetch: Fetch, area: Area) => readonly Shape[]
  /** What of these shapes selects a workload of these labels, in the order of shapes and keys. */
  readonly select: (
    fetch: Fetch,
    shapes: readonly Shape[],
    labels: ReadonlyMap<string, string>,
  ) => readonly V[]
  /** What concerns all of the area, in the order of keys. */
  readonly ofAll: (fetch: Fetch, area: Area) => readonly V[]
  /** What selects anything in the area, in the order of keys: as many as there are. */
  readonly ofSome: (fetch: Fetch, area: Area) => readonly V[]
}

/** The labels that selectors of an area name. */
export interface Shape {
  readonly area: Area
  readonly keys: readonly string[]
}

const NONE: readonly never[] = []

/** Makes the selection; collections that are made after it can ask. */
export function selectionOf<K extends string, V extends Selectable & NonNullable<unknown>>(
  graph: Graph,
  name: string,
  policies: Collection<K, V>,
): Selection<V> {
  const bySelector = policies.index(({ area, selector }) =>
    selector === undefined ? NONE : [selectorKey(area, [...selector])],
  )
  const withoutSelector = policies.index(({ area, selector }) =>
    selector === undefined ? [area] : NONE,
  )
  const withSelector = policies.index(({ area, selector }) =>
    selector === undefined ? NONE : [area],
  )
  const shapes = graph.derive(`shapes of ${name}`, policies, (_fetch, { area, selector }) => {
    if (selector === undefined) return NONE
    const keys = [...selector.keys()]
    const shape: Shape = { area, keys }
    return [[[area, ...keys].join('\n'), shape]]
  })
  const shapesByArea = shapes.index(({ area }) => [area])
  return {
    ofAll: (fetch, area) => fetch(withoutSelector, area),
    ofSome: (fetch, area) => fetch(withSelector, area),
    shapes: (fetch, area) => fetch(shapesByArea, area),
    select: (fetch, those, labels) => {
      let found: readonly V[] = NONE
      for (const { area, keys } of those) {
        const values = valuesOf(labels, keys)
        if (values === undefined) continue
        const each = fetch(bySelector, selectorKey(area, values))
        found = found.length === 0 ? each : [...found, ...each]
      }
      return found
    },
  }
}

/** Labels have neither line breaks nor equals signs: different selectors are different texts. */
function selectorKey(area: Area, labels: readonly (readonly [string, string])[]): string {
  return [area, ...labels.map(([key, value]) => `${key}=${value}`)].join('\n')
}

/** What the labels say under all of these keys. */
function valuesOf(
  labels: ReadonlyMap<string, string>,
  keys: readonly string[],
): readonly (readonly [string, string])[] | undefined {
  const values: (readonly [string, string])[] = []
  for (const key of keys) {
    const value = labels.get(key)
    if (value === undefined) return undefined
    values.push([key, value])
  }
  return values
}
