// SPDX-License-Identifier: Apache-2.0
// A Kubernetes NetworkPolicy as far as TCP is concerned, and its form on the wire: a type of ours. Whom it selects say the workloads, which
// name it; who its peers are say the workloads, too, by the groups they are in. So a pod that comes, goes or changes its labels is a change
// of one workload, however many policies let it in. What the words mean is said in mesh/policy/network.ts.

import { FLAG, list, optional, single, TEXT, UINT } from './codec/kind.ts'
import { converted, derived, field, record, wholeRecord } from './codec/record.ts'
import { FieldProblem } from './codec/wire-reader.ts'
import { ADDRESS_RANGE, type AddressRange, type PolicyKey } from './policy.ts'

/** `everyPod`: of the policy's cluster. `group`: the workloads that name it among their `peerGroups`. */
export type NetworkPeer =
  | { readonly kind: 'everyPod' }
  | { readonly kind: 'namespace'; readonly namespace: string }
  | { readonly kind: 'group'; readonly group: string }
  | {
      readonly kind: 'range'
      readonly range: AddressRange
      readonly except: readonly AddressRange[]
    }

/** Ports of the pod that is called: from `first` to `last`, or those that its containers have under this name. */
export type NetworkPort =
  | { readonly kind: 'range'; readonly first: number; readonly last: number }
  | { readonly kind: 'name'; readonly name: string }

/** Allows what has one of the ports, and one of the peers at its other end. */
export interface NetworkRule {
  readonly peers: readonly NetworkPeer[]
  readonly ports: readonly NetworkPort[]
  /** Said, and not concluded from an empty list: what cannot be read must not make a rule wider. */
  readonly isAnyPeer: boolean
  readonly isAnyPort: boolean
  /** Its place in the object's list, from 0. */
  readonly place: number
}

/** What a policy allows of one direction. A pod that is selected by some policy for a direction is allowed what they say, and nothing else. */
export interface NetworkDirection {
  readonly rules: readonly NetworkRule[]
}

export interface NetworkPolicy {
  readonly key: PolicyKey
  readonly namespace: string
  readonly name: string
  /** Undefined where it says nothing of the direction. */
  readonly ingress: NetworkDirection | undefined
  readonly egress: NetworkDirection | undefined
}

interface WirePeer {
  readonly isEveryPod: boolean
  readonly namespace: string
  readonly group: string
  readonly range: AddressRange | undefined
  readonly except: readonly AddressRange[]
}

const PEER = converted(
  wholeRecord<WirePeer>({
    isEveryPod: field('every_pod', 1, single(FLAG)),
    namespace: field('namespace', 2, single(TEXT)),
    group: field('group', 3, single(TEXT)),
    range: field('range', 4, optional(ADDRESS_RANGE)),
    except: field('except', 5, list(ADDRESS_RANGE)),
  }),
  { kind: 'everyPod' },
  ({ isEveryPod, namespace, group, range, except }): NetworkPeer => {
    const found: NetworkPeer[] = []
    if (isEveryPod) found.push({ kind: 'everyPod' })
    if (namespace !== '') found.push({ kind: 'namespace', namespace })
    if (group !== '') found.push({ kind: 'group', group })
    if (range !== undefined) found.push({ kind: 'range', range, except })
    const [only, another] = found
    if (only === undefined) throw new FieldProblem('says nobody')
    if (another !== undefined) throw new FieldProblem('says several kinds of peers')
    return only
  },
  (peer): WirePeer => ({
    isEveryPod: peer.kind === 'everyPod',
    namespace: peer.kind === 'namespace' ? peer.namespace : '',
    group: peer.kind === 'group' ? peer.group : '',
    range: peer.kind === 'range' ? peer.range : undefined,
    except: peer.kind === 'range' ? peer.except : [],
  }),
)

interface WirePort {
  readonly first: number
  readonly last: number
  readonly name: string
}

const PORT = converted(
  wholeRecord<WirePort>({
    first: field('first', 1, single(UINT)),
    last: field('last', 2, single(UINT)),
    name: field('name', 3, single(TEXT)),
  }),
  { kind: 'range', first: 0, last: 0 },
  ({ first, last, name }): NetworkPort => {
    if (name !== '') return { kind: 'name', name }
    if (first === 0 || last < first) throw new FieldProblem(`${first} to ${last} are no ports`)
    return { kind: 'range', first, last }
  },
  (port): WirePort =>
    port.kind === 'name'
      ? { first: 0, last: 0, name: port.name }
      : { first: port.first, last: port.last, name: '' },
)

const RULE = wholeRecord<NetworkRule>({
  peers: field('peers', 1, list(PEER)),
  ports: field('ports', 2, list(PORT)),
  isAnyPeer: field('any_peer', 3, single(FLAG)),
  isAnyPort: field('any_port', 4, single(FLAG)),
  place: field('place', 5, single(UINT)),
})

const DIRECTION = wholeRecord<NetworkDirection>({ rules: field('rules', 1, list(RULE)) })

export const NETWORK_POLICY = wholeRecord<NetworkPolicy>({
  key: derived(
    '' as PolicyKey,
    ({ namespace, name }: NetworkPolicy) => `${namespace}/${name}` as PolicyKey,
    { dump: () => ({}) },
  ),
  namespace: field('namespace', 1, single(TEXT), { isRequired: true, isShared: true }),
  name: field('name', 2, single(TEXT), { isRequired: true }),
  ingress: field('ingress', 3, optional(DIRECTION)),
  egress: field('egress', 4, optional(DIRECTION)),
})

/** The ports of a pod's containers under one name. */
export interface NamedPort {
  readonly name: string
  readonly port: number
}

/** Whether two pods call the same ports by the same names. */
export function isSamePorts(one: readonly NamedPort[], other: readonly NamedPort[]): boolean {
  if (one === other) return true
  return (
    one.length === other.length &&
    one.every(({ name, port }, at) => other[at]?.name === name && other[at].port === port)
  )
}

export const NAMED_PORT = record<NamedPort>({
  name: field('name', 1, single(TEXT), { isRequired: true }),
  port: field('port', 2, single(UINT)),
})
