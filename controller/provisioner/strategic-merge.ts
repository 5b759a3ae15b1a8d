// SPDX-License-Identifier: Apache-2.0
// A strategic merge, as kubectl and Istio have it: maps merge, null takes away, lists whose members have a key merge by it, all others are
// replaced. Pure.

import { type Fields, fieldsOf } from '../istio-api/flaw.ts'

/** The key of the members, by the name of the list. Ports are told by another name in a Service than in a container. */
const KEYS: Readonly<Record<string, readonly string[]>> = {
  containers: ['name'],
  initContainers: ['name'],
  env: ['name'],
  volumes: ['name'],
  volumeMounts: ['mountPath'],
  imagePullSecrets: ['name'],
  hostAliases: ['ip'],
  topologySpreadConstraints: ['topologyKey'],
  ports: ['containerPort', 'port'],
}
const DIRECTIVE = '$patch'
/** Members of one list: whoever writes more does not mean a waypoint. */
const MOST_MEMBERS = 1_000

/** The target with the patch over it; neither is changed. */
export function strategicMerge(target: Fields, patch: Fields): Fields {
  if (patch[DIRECTIVE] === 'replace') return bare(patch)
  const result: Record<string, unknown> = { ...target }
  for (const [name, change] of Object.entries(patch)) {
    if (name === DIRECTIVE) continue
    if (change === null) Reflect.deleteProperty(result, name)
    else result[name] = merged(name, result[name], change)
  }
  return result
}

function merged(name: string, target: unknown, change: unknown): unknown {
  if (Array.isArray(change)) return mergedList(name, target, change as readonly unknown[])
  const fields = fieldsOf(change)
  return fields === undefined ? change : strategicMerge(fieldsOf(target) ?? {}, fields)
}

function mergedList(name: string, target: unknown, changes: readonly unknown[]): unknown {
  const key = KEYS[name]?.find((each) =>
    changes.every((member) => fieldsOf(member)?.[each] !== undefined || isReplace(member)),
  )
  if (key === undefined || changes.length > MOST_MEMBERS || changes.some(isReplace))
    return changes.filter((member) => !isReplace(member))
  let result: readonly unknown[] = Array.isArray(target) ? (target as readonly unknown[]) : []
  for (const change of changes) {
    const fields = fieldsOf(change) ?? {}
    const isMeant = (member: unknown): boolean => fieldsOf(member)?.[key] === fields[key]
    const before = result.find(isMeant)
    if (fields[DIRECTIVE] === 'delete') result = result.filter((member) => !isMeant(member))
    else if (before === undefined) result = [...result, strategicMerge({}, fields)]
    else
      result = result.map((member) =>
        member === before ? strategicMerge(fieldsOf(member) ?? {}, fields) : member,
      )
  }
  return result
}

function isReplace(member: unknown): boolean {
  return fieldsOf(member)?.[DIRECTIVE] === 'replace'
}

function bare(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => name !== DIRECTIVE))
}
