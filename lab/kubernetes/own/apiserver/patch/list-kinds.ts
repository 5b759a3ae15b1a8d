// SPDX-License-Identifier: Apache-2.0
// How lists merge: by the keys of their members, as sets, or as one atomic value. Strategic-merge and
// apply patches ask this for each list by its path of field names (indices left out).

import { type Draft, at, record, text, texts } from '../../../objects/json.ts'
import type { ResourceType } from '../../../objects/resource-types.ts'

export type ListKind =
  | { readonly kind: 'map'; readonly keys: readonly string[] }
  | { readonly kind: 'set' }
  | { readonly kind: 'atomic' }

/** Answers for a list at a path such as ['spec', 'template', 'spec', 'containers']. */
export type ListKindOf = (path: readonly string[]) => ListKind

const ATOMIC: ListKind = { kind: 'atomic' }
const SET: ListKind = { kind: 'set' }
const byKeys = (...keys: readonly string[]): ListKind => ({ kind: 'map', keys })

/** Lists of built-in types that merge, by the name of their field; wherever that name appears. */
const BY_FIELD: { readonly [field: string]: ListKind } = {
  containers: byKeys('name'),
  initContainers: byKeys('name'),
  ephemeralContainers: byKeys('name'),
  env: byKeys('name'),
  volumes: byKeys('name'),
  volumeMounts: byKeys('mountPath'),
  volumeDevices: byKeys('devicePath'),
  imagePullSecrets: byKeys('name'),
  secrets: byKeys('name'),
  hostAliases: byKeys('ip'),
  podIPs: byKeys('ip'),
  conditions: byKeys('type'),
  topologySpreadConstraints: byKeys('topologyKey'),
  readinessGates: ATOMIC,
  finalizers: SET,
}

const CONTAINER_LISTS = new Set(['containers', 'initContainers', 'ephemeralContainers'])

/** The protocol has a default, so clients may leave this key out of a member. */
export const KEY_DEFAULTS: { readonly [key: string]: string } = { protocol: 'TCP' }

function builtInListKind(kind: string): ListKindOf {
  return (path) => {
    const field = path.at(-1) ?? ''
    const parent = path.at(-2) ?? ''
    if (field === 'ownerReferences' && parent === 'metadata') return byKeys('uid')
    if (field === 'ports') {
      if (CONTAINER_LISTS.has(parent)) return byKeys('containerPort', 'protocol')
      return kind === 'Service' && parent === 'spec' ? byKeys('port', 'protocol') : ATOMIC
    }
    if (field === 'addresses')
      return kind === 'Node' && parent === 'status' ? byKeys('type') : ATOMIC
    return BY_FIELD[field] ?? ATOMIC
  }
}

/** The schema of the list at a path of a custom resource. */
function schemaAt(schema: Draft | undefined, path: readonly string[]): Draft | undefined {
  let here = schema
  for (const field of path) {
    if (here?.type === 'array') here = record(here.items)
    here = record(at(here, 'properties', field)) ?? record(here?.additionalProperties)
  }
  return here
}

/** How the lists of a type merge; for custom resources their schema says it. */
export function listKindsOf(type: ResourceType, version: string): ListKindOf {
  if (!type.isCustom) return builtInListKind(type.kind)
  const schema = type.versions.find((one) => one.version === version)?.schema
  return (path) => {
    if (path[0] === 'metadata') return builtInListKind(type.kind)(path)
    const listSchema = schemaAt(schema, path)
    const listType = text(listSchema?.['x-kubernetes-list-type'])
    if (listType === 'set') return SET
    if (listType !== 'map') return ATOMIC
    return byKeys(...texts(listSchema?.['x-kubernetes-list-map-keys']))
  }
}
