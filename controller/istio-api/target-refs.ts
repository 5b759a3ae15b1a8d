// SPDX-License-Identifier: Apache-2.0
// What an AuthorizationPolicy is attached to: `targetRefs`, or the one `targetRef` of before. What is not an entry that could name anything
// leaves nobody in the clear: the policy then concerns all that it may have meant.

import { type Fields, type FlawReader, fieldsOf, hasOthers, isAbsent, shown } from './flaw.ts'

export const TARGET_KINDS = ['Gateway', 'Service', 'GatewayClass', 'ServiceEntry'] as const

export type TargetKind = (typeof TARGET_KINDS)[number]

/** An object of the policy's own namespace, or, of the root namespace's, a class of Gateways. */
export interface TargetRef {
  readonly kind: TargetKind
  readonly name: string
  /** Where it is written. */
  readonly field: string
}

export interface TargetRefs {
  readonly refs: readonly TargetRef[]
  /** There is one more at least, and nobody can tell what it names. */
  readonly isUnreadable: boolean
}

const GATEWAY_GROUP = 'gateway.networking.k8s.io'
/** The groups that a kind is of; what says none is taken for the one that there is. */
const GROUPS: Readonly<Record<TargetKind, readonly string[]>> = {
  Gateway: [GATEWAY_GROUP],
  GatewayClass: [GATEWAY_GROUP],
  Service: ['', 'core'],
  ServiceEntry: ['networking.istio.io'],
}
const FIELDS = ['targetRef', 'targetRefs'] as const
const REF_FIELDS = ['group', 'kind', 'name', 'namespace']
/** Istio's own bound. */
const MOST_REFS = 16

/** Whether the policy is attached to anything. */
export function isAttached(spec: Fields): boolean {
  return FIELDS.some((name) => {
    const value = spec[name]
    return !isAbsent(value) && !(Array.isArray(value) && value.length === 0)
  })
}

/** Reads what a policy of this namespace is attached to. */
export function readTargetRefs(
  reader: FlawReader,
  namespace: string,
  { targetRef, targetRefs }: Fields,
): TargetRefs {
  const written: (readonly [string, unknown])[] = isAbsent(targetRef)
    ? []
    : [['spec.targetRef', targetRef]]
  let isUnreadable = false
  if (Array.isArray(targetRefs) && targetRefs.length <= MOST_REFS)
    for (const [at, each] of (targetRefs as readonly unknown[]).entries())
      written.push([`spec.targetRefs[${at}]`, each])
  else if (!isAbsent(targetRefs)) {
    const reason = Array.isArray(targetRefs)
      ? `has ${targetRefs.length} entries, more than ${MOST_REFS}`
      : 'is not a list'
    reader.note('spec.targetRefs', reason)
    isUnreadable = true
  }
  const refs: TargetRef[] = []
  for (const [field, value] of written) {
    const ref = readRef(reader, namespace, field, value)
    if (ref === 'unreadable') isUnreadable = true
    else if (ref !== undefined) refs.push(ref)
  }
  return { refs, isUnreadable }
}

/** Undefined for what is clearly something else than waypoints judge. */
function readRef(
  reader: FlawReader,
  own: string,
  field: string,
  value: unknown,
): TargetRef | 'unreadable' | undefined {
  const fields = fieldsOf(value)
  if (fields === undefined) {
    reader.note(field, 'is not a map')
    return 'unreadable'
  }
  const { group, kind, name, namespace } = fields
  if (hasOthers(reader, field, fields, REF_FIELDS)) return 'unreadable'
  if (typeof name !== 'string' || name === '') {
    reader.note(`${field}.name`, `${shown(name)} is no name`)
    return 'unreadable'
  }
  const known = TARGET_KINDS.find((each) => each === kind)
  if (known === undefined) {
    reader.note(`${field}.kind`, `${shown(kind)} is not ${TARGET_KINDS.join(', ')}`)
    return typeof kind === 'string' ? undefined : 'unreadable'
  }
  if (!isAbsent(group) && !GROUPS[known].some((each) => each === group)) {
    reader.note(`${field}.group`, `${shown(group)} is not the group of a ${known}`)
    return undefined
  }
  if (!isAbsent(namespace) && namespace !== '' && namespace !== own) {
    reader.note(`${field}.namespace`, 'is another namespace: a policy judges calls of its own')
    return undefined
  }
  return { kind: known, name, field }
}
