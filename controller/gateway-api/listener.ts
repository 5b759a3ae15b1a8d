// SPDX-License-Identifier: Apache-2.0
// The listeners of a Gateway. A waypoint has one, HBONE on port 15008; whoever may bind to the waypoint is said there, in
// allowedRoutes.namespaces.

import { type FlawReader, fieldsOf, isAbsent, shown } from '../istio-api/flaw.ts'
import { type LabelSelector, readLabelSelector } from '../network-policy/label-selector.ts'

/** Namespaces whose objects a listener takes. `none`: what is written cannot be read, and lets nobody in. */
export type AllowedNamespaces =
  | { readonly kind: 'same' | 'all' | 'none' }
  | { readonly kind: 'selector'; readonly selector: LabelSelector }

export interface ListenerFacts {
  readonly name: string
  readonly port: unknown
  readonly protocol: unknown
  readonly hostname: unknown
  readonly allowed: AllowedNamespaces
  /** `group/kind` of the routes that it takes; undefined: those of its protocol. */
  readonly kinds: readonly string[] | undefined
}

/** Istio's name of the protocol; the Gateway API lets implementations have their own. */
const HBONE_PROTOCOL = 'HBONE'
export const HBONE_PORT = 15_008
/** As many as the Gateway API takes. */
const MOST_LISTENERS = 64
const GATEWAY_API = 'gateway.networking.k8s.io'
/** Of requests and of connections: within a tunnel there may be any of them. */
const ROUTE_KINDS = ['HTTPRoute', 'GRPCRoute', 'TCPRoute', 'TLSRoute'].map(
  (kind) => `${GATEWAY_API}/${kind}`,
)
const NO_KINDS: readonly string[] = []
const SAME: AllowedNamespaces = { kind: 'same' }
const NOBODY: AllowedNamespaces = { kind: 'none' }

/** Whether a waypoint listens so. */
export function isHbone({ port, protocol }: Pick<ListenerFacts, 'port' | 'protocol'>): boolean {
  return port === HBONE_PORT && protocol === HBONE_PROTOCOL
}

/** The kinds of routes that a waypoint serves by a listener of such a protocol; by one that it does not speak, none. */
export function servedKinds(listener: ListenerFacts): readonly string[] {
  return isHbone(listener) ? ROUTE_KINDS : NO_KINDS
}

/** What Gateways may have no two listeners of that are alike (Gateway API, "Distinct Listeners"). */
export type ListenerConflict = 'ProtocolConflict' | 'HostnameConflict'

/** How a listener conflicts with another one of its Gateway. */
export function conflictOf(
  listener: ListenerFacts,
  all: readonly ListenerFacts[],
): ListenerConflict | undefined {
  const beside = all.filter((other) => other !== listener && other.port === listener.port)
  if (beside.some(({ protocol }) => protocol !== listener.protocol)) return 'ProtocolConflict'
  const isSame = beside.some(({ hostname }) => (hostname ?? '') === (listener.hostname ?? ''))
  return isSame ? 'HostnameConflict' : undefined
}

/** Reads `spec.listeners`. */
export function readListeners(reader: FlawReader, value: unknown): readonly ListenerFacts[] {
  if (isAbsent(value)) return []
  if (!Array.isArray(value)) {
    reader.note('spec.listeners', 'is not a list')
    return []
  }
  const listeners = value as readonly unknown[]
  if (listeners.length > MOST_LISTENERS)
    reader.note('spec.listeners', `has more than ${MOST_LISTENERS}; the rest is left out`)
  return listeners.slice(0, MOST_LISTENERS).map((each, index) => {
    const field = `spec.listeners[${index}]`
    const { name, port, protocol, hostname, allowedRoutes } = fieldsOf(each) ?? {}
    const routes = fieldsOf(allowedRoutes) ?? {}
    return {
      name: typeof name === 'string' ? name : '',
      port,
      protocol,
      hostname,
      allowed: readAllowed(reader, `${field}.allowedRoutes.namespaces`, routes['namespaces']),
      kinds: readKinds(reader, `${field}.allowedRoutes.kinds`, routes['kinds']),
    }
  })
}

function readAllowed(reader: FlawReader, field: string, value: unknown): AllowedNamespaces {
  if (isAbsent(value)) return SAME
  const { from = 'Same', selector } = fieldsOf(value) ?? { from: value }
  switch (from) {
    case 'Same':
      return SAME
    case 'All':
      return { kind: 'all' }
    case 'None':
      return NOBODY
    case 'Selector': {
      const read = readLabelSelector(reader, `${field}.selector`, selector)
      return read === undefined ? NOBODY : { kind: 'selector', selector: read }
    }
    default:
      reader.note(`${field}.from`, `${shown(from)} is none of Same, All, Selector and None`)
      return NOBODY
  }
}

function readKinds(
  reader: FlawReader,
  field: string,
  value: unknown,
): readonly string[] | undefined {
  if (isAbsent(value)) return undefined
  if (!Array.isArray(value)) {
    reader.note(field, 'is not a list')
    return []
  }
  return (value as readonly unknown[]).flatMap((each, index) => {
    const { group, kind } = fieldsOf(each) ?? {}
    const of = isAbsent(group) ? GATEWAY_API : group
    if (typeof of === 'string' && typeof kind === 'string') return [`${of}/${kind}`]
    reader.note(`${field}[${index}]`, 'is not a group and a kind')
    return []
  })
}
