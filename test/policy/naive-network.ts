// SPDX-License-Identifier: Apache-2.0
// NetworkPolicies as the words of the Kubernetes API read, over the objects themselves and with no thought of cost: the witness of what
// controller and agents make of them together, with which it shares no code.

import { BlockList } from 'node:net'

export interface NaiveSelector {
  readonly matchLabels?: Readonly<Record<string, string>>
  readonly matchExpressions?: readonly {
    readonly key: string
    readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'
    readonly values?: readonly string[]
  }[]
}

export interface NaivePeer {
  readonly podSelector?: NaiveSelector
  readonly namespaceSelector?: NaiveSelector
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] }
}

export interface NaiveRule {
  readonly from?: readonly NaivePeer[]
  readonly to?: readonly NaivePeer[]
  readonly ports?: readonly {
    readonly protocol?: string
    readonly port?: number | string
    readonly endPort?: number
  }[]
}

export interface NaiveNetworkPolicy {
  readonly namespace: string
  readonly spec: {
    readonly podSelector: NaiveSelector
    readonly policyTypes?: readonly string[]
    readonly ingress?: readonly NaiveRule[]
    readonly egress?: readonly NaiveRule[]
  }
}

export interface NaivePod {
  readonly namespace: string
  readonly labels: Readonly<Record<string, string>>
  readonly ip: string
  readonly hostNetwork: boolean
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[]
}

export type NaiveNamespaces = ReadonlyMap<string, Readonly<Record<string, string>>>

function selected(selector: NaiveSelector, labels: Readonly<Record<string, string>>): boolean {
  const byLabels = Object.entries(selector.matchLabels ?? {}).every(
    ([key, value]) => labels[key] === value,
  )
  const byExpressions = (selector.matchExpressions ?? []).every(
    ({ key, operator, values = [] }) => {
      const value = labels[key]
      if (operator === 'Exists') return value !== undefined
      if (operator === 'DoesNotExist') return value === undefined
      const isAmong = value !== undefined && values.includes(value)
      return operator === 'In' ? isAmong : !isAmong
    },
  )
  return byLabels && byExpressions
}

function inBlock(ip: string, cidr: string): boolean {
  const [base = '', bits] = cidr.split('/')
  const list = new BlockList()
  list.addSubnet(base, Number(bits), 'ipv4')
  return list.check(ip, 'ipv4')
}

/** Whether the connection may be made in one direction; `at` is the pod that is selected, `other` the far end. */
export function naivelyAllowed(
  way: 'ingress' | 'egress',
  policies: readonly NaiveNetworkPolicy[],
  namespaces: NaiveNamespaces,
  at: NaivePod,
  other: NaivePod,
  port: number,
): boolean {
  if (at.ip === other.ip || at.hostNetwork) return true
  const type = way === 'ingress' ? 'Ingress' : 'Egress'
  const ofPod = policies.filter(({ namespace, spec }) => {
    const defaults = (spec.egress ?? []).length > 0 ? ['Ingress', 'Egress'] : ['Ingress']
    const types = (spec.policyTypes ?? []).length > 0 ? (spec.policyTypes ?? []) : defaults
    return (
      namespace === at.namespace && types.includes(type) && selected(spec.podSelector, at.labels)
    )
  })
  if (ofPod.length === 0) return true
  const called = way === 'ingress' ? at : other
  return ofPod.some(({ namespace, spec }) =>
    (spec[way] ?? []).some((rule) => {
      const peers = (way === 'ingress' ? rule.from : rule.to) ?? []
      const ports = rule.ports ?? []
      const hasPort =
        ports.length === 0 ||
        ports.some(({ protocol = 'TCP', port: wanted, endPort }) => {
          if (protocol !== 'TCP') return false
          if (wanted === undefined) return true
          if (typeof wanted === 'number') return port >= wanted && port <= (endPort ?? wanted)
          // A pod of the node's network is an address like any other.
          const named = called.hostNetwork ? [] : called.ports
          return named.some(({ name, containerPort }) => name === wanted && containerPort === port)
        })
      const hasPeer =
        peers.length === 0 ||
        peers.some(({ podSelector, namespaceSelector, ipBlock }) => {
          if (ipBlock !== undefined)
            return (
              inBlock(other.ip, ipBlock.cidr) &&
              !(ipBlock.except ?? []).some((cidr) => inBlock(other.ip, cidr))
            )
          if (other.hostNetwork) return false
          const isThere =
            namespaceSelector === undefined
              ? other.namespace === namespace
              : selected(namespaceSelector, {
                  ...namespaces.get(other.namespace),
                  'kubernetes.io/metadata.name': other.namespace,
                })
          return isThere && selected(podSelector ?? {}, other.labels)
        })
      return hasPort && hasPeer
    }),
  )
}
