// SPDX-License-Identifier: Apache-2.0
// Which workloads a policy object speaks of: Istio's WorkloadSelector, or what it is attached to.

import type { TargetRefs } from './target-refs.ts'
import { type FlawReader, type Fields, fieldsOf, isAbsent, shown } from './flaw.ts'

/**
 * `all`: every workload of its namespace, or of the mesh if it lies in the root namespace. `labels`: those of them that have
 * these labels. `attached`: what goes through a waypoint. `unreadable`: nobody can tell whom it concerns.
 */
export type PolicyTarget =
  | { readonly kind: 'all' | 'unreadable' }
  | { readonly kind: 'attached'; readonly refs: TargetRefs }
  | { readonly kind: 'labels'; readonly labels: ReadonlyMap<string, string> }

const ALL: PolicyTarget = { kind: 'all' }
const UNREADABLE: PolicyTarget = { kind: 'unreadable' }

/** Kubernetes' own bounds and form of a label: what is none can be on no pod, so its writer meant something else. */
const LABEL_KEY =
  /^(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/
const LABEL_VALUE = /^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/
const MOST_LABELS = 100

/** Reads `spec.selector`. A selector that cannot be read is not one that selects everything. */
export function readSelector(reader: FlawReader, spec: Fields): PolicyTarget {
  const field = 'spec.selector'
  if (isAbsent(spec.selector)) return ALL
  const selector = fieldsOf(spec.selector)
  if (selector === undefined) {
    reader.note(field, 'is not a map')
    return UNREADABLE
  }
  const unknown = Object.keys(selector).find((key) => key !== 'matchLabels')
  if (unknown !== undefined) {
    reader.note(`${field}.${unknown}`, 'is no field of a selector')
    return UNREADABLE
  }
  if (isAbsent(selector.matchLabels)) return ALL
  const labels = readLabels(reader, `${field}.matchLabels`, selector.matchLabels)
  if (labels === undefined) return UNREADABLE
  return labels.size === 0 ? ALL : { kind: 'labels', labels }
}

function readLabels(
  reader: FlawReader,
  field: string,
  value: unknown,
): ReadonlyMap<string, string> | undefined {
  const fields = fieldsOf(value)
  if (fields === undefined) {
    reader.note(field, 'is not a map')
    return undefined
  }
  const entries = Object.entries(fields)
  if (entries.length > MOST_LABELS) {
    reader.note(field, `has ${entries.length} labels, more than ${MOST_LABELS}`)
    return undefined
  }
  const labels: [string, string][] = []
  for (const [key, text] of entries)
    if (typeof text === 'string' && LABEL_VALUE.test(text) && LABEL_KEY.test(key))
      labels.push([key, text])
    else reader.note(`${field}[${key}]`, `${shown(text)} is no value that a label can have`)
  if (labels.length < entries.length) return undefined
  // In an order of their own, so that equal selectors are equal texts.
  return new Map(labels.toSorted(([left], [right]) => (left < right ? -1 : 1)))
}
