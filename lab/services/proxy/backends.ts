// SPDX-License-Identifier: Apache-2.0
// Which endpoints of a Service may get connections, and which of them a connection gets: kube-proxy's rules, pure.

import { hashText } from '../../../mesh/hash-text.ts'
import type { EndpointView, ServiceView, SliceView } from '../kube-view.ts'

export interface Backend {
  readonly address: string
  readonly port: number
}

/** A port of a service, as slices know it. */
interface NamedPort {
  readonly name: string
  readonly protocol: string
}

/** Clients fall into so many groups, and each group sticks to an endpoint: enough for a fair spread over a lab's few pods. */
const CLIENT_GROUPS = 128

/**
 * The endpoints that may get connections: ready ones, else those that are ending and still serve. With `onlyNode` both among
 * the endpoints of that node alone.
 */
export function backendsOf(
  service: ServiceView,
  slices: readonly SliceView[],
  { name, protocol }: NamedPort,
  onlyNode?: string,
): readonly Backend[] {
  const candidates = slices.flatMap((slice) => {
    const port = slice.ports.find((each) => each.name === name && each.protocol === protocol)
    if (port === undefined) return []
    return slice.endpoints
      .filter(({ node }) => onlyNode === undefined || node === onlyNode)
      .flatMap((endpoint) =>
        // Kubernetes gives no meaning to further addresses.
        endpoint.addresses.slice(0, 1).map((address) => ({ address, port: port.port, endpoint })),
      )
  })
  const ready = candidates.filter((each) => each.endpoint.isReady || service.publishNotReady)
  return distinct(
    ready.length > 0 ? ready : candidates.filter((each) => isLastResort(each.endpoint)),
  )
}

/** One in several slices (while it moves from one to another, or as its operator likes) is one all the same. */
function distinct(backends: readonly Backend[]): readonly Backend[] {
  return [...new Map(backends.map((each) => [`${each.address} ${each.port}`, each])).values()]
}

const isLastResort = ({ isServing, isTerminating }: EndpointView): boolean =>
  isServing && isTerminating

/** The destination of an nftables dnat statement: one of the backends at random. */
export function anyOf(backends: readonly Backend[]): string {
  const [only] = backends
  if (only !== undefined && backends.length === 1) {
    const host = only.address.includes(':') ? `[${only.address}]` : only.address
    return `${host}:${only.port}`
  }
  return `numgen random mod ${backends.length} map { ${choices(backends)} }`
}

/**
 * As anyOf, but for each client always the same while the backends stay, and mostly when they change. (kube-proxy remembers
 * each client for a time instead. Those memories would have to survive each change of the ruleset, which replaces it whole.)
 */
export function sameForClient(
  backends: readonly Backend[],
  family: 'ip' | 'ip6',
  service: string,
): string {
  if (backends.length === 1) return anyOf(backends)
  const groups = Array.from({ length: CLIENT_GROUPS }, (_, group) =>
    backends.reduce((best, each) =>
      weight(each, service, group) > weight(best, service, group) ? each : best,
    ),
  )
  const seed = hashText(service)
  return `jhash ${family} saddr mod ${CLIENT_GROUPS} seed 0x${seed.toString(16)} map { ${choices(groups)} }`
}

/** Rendezvous hashing: a backend that comes takes its share from all, one that goes leaves the others' clients alone. */
const weight = ({ address, port }: Backend, service: string, group: number): number =>
  hashText(`${group} ${service} ${address} ${port}`)

const choices = (backends: readonly Backend[]): string =>
  backends.map(({ address, port }, at) => `${at} : ${address} . ${port}`).join(', ')
