// SPDX-License-Identifier: Apache-2.0
// What the NetworkPolicies of a pod say of a call, in one direction: with none of them the direction is open; with some, one of them must
// allow it. They add up: none takes away what another allows. What is asked about is the connection that the app meant, whatever carries
// it: the port of the called pod and not 15008, the address of the caller and not that of a proxy. Pure.

import type { AddressRange } from '../model/policy.ts'
import type { IpAddress, Workload } from '../model/types.ts'
import { isInPrefix } from '../model/address.ts'
import { isPodWorkloadUid } from '../model/names.ts'
import type {
  NamedPort,
  NetworkDirection,
  NetworkPeer,
  NetworkPolicy,
  NetworkPort,
  NetworkRule,
} from '../model/network-policy.ts'

export type NetworkWay = 'ingress' | 'egress'

/** A connection as NetworkPolicies see it. */
export interface NetworkCall {
  /** The far end: who calls, or who is called. */
  readonly peer: IpAddress
  /** The workload that is found by that address, of the pod's own cluster; undefined where none is. */
  readonly workload: Pick<Workload, 'uid' | 'namespace' | 'peerGroups'> | undefined
  /** Of the pod that is called. */
  readonly port: number
  /** Of the containers of the pod that is called. */
  readonly namedPorts: readonly NamedPort[]
}

/** A rule that allows a call, and the policy it is of. */
export interface NetworkHit {
  readonly policy: NetworkPolicy
  readonly rule: NetworkRule
}

/** `open`: no policy is about the direction. `refused`: these are, and none allows the call. */
export type NetworkVerdict =
  | { readonly kind: 'open' }
  | { readonly kind: 'allowed'; readonly by: NetworkHit }
  | { readonly kind: 'refused'; readonly policies: readonly NetworkPolicy[] }

const OPEN: NetworkVerdict = { kind: 'open' }

/** Asks the policies that select a pod. Hot: once per call; costs in proportion to their rules, until one allows it. */
export function judgeNetwork(
  policies: readonly NetworkPolicy[],
  way: NetworkWay,
  call: NetworkCall,
): NetworkVerdict {
  let refusing: NetworkPolicy[] | undefined
  for (const policy of policies) {
    const direction = policy[way]
    if (direction === undefined) continue
    const rule = allowingRule(direction, call)
    if (rule !== undefined) return { kind: 'allowed', by: { policy, rule } }
    ;(refusing ??= []).push(policy)
  }
  return refusing === undefined ? OPEN : { kind: 'refused', policies: refusing }
}

/** Whether any of the policies is about the direction. */
export function isIsolated(policies: readonly NetworkPolicy[], way: NetworkWay): boolean {
  return policies.some((policy) => policy[way] !== undefined)
}

function allowingRule({ rules }: NetworkDirection, call: NetworkCall): NetworkRule | undefined {
  return rules.find(
    ({ isAnyPort, ports, isAnyPeer, peers }) =>
      (isAnyPort || ports.some((port) => hasPort(port, call))) &&
      (isAnyPeer || peers.some((peer) => isPeer(peer, call))),
  )
}

function hasPort(wanted: NetworkPort, { port, namedPorts }: NetworkCall): boolean {
  return wanted.kind === 'range'
    ? port >= wanted.first && port <= wanted.last
    : namedPorts.some((each) => each.name === wanted.name && each.port === port)
}

function isPeer(wanted: NetworkPeer, { peer, workload }: NetworkCall): boolean {
  switch (wanted.kind) {
    case 'everyPod':
      return workload !== undefined && isPodWorkloadUid(workload.uid)
    case 'namespace':
      return isPodOf(workload, wanted.namespace)
    case 'group':
      return workload?.peerGroups.includes(wanted.group) === true
    case 'range':
      return isIn(peer, wanted.range) && !wanted.except.some((range) => isIn(peer, range))
  }
}

function isPodOf(workload: NetworkCall['workload'], namespace: string): boolean {
  return workload?.namespace === namespace && isPodWorkloadUid(workload.uid)
}

function isIn(address: IpAddress, { address: base, length }: AddressRange): boolean {
  return isInPrefix(address, base, length)
}
