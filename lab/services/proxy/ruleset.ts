// SPDX-License-Identifier: Apache-2.0
// Turns services and their endpoints into one nftables ruleset for a node: pure text out of data. It does
// what kube-proxy does for ClusterIPs, and nothing for node ports or load balancers.

import type { ServiceIndex, ServiceView, SliceView } from '../kube-view.ts'

const SERVICE_TABLE = 'ambit-lab-services'

interface Family {
  readonly name: 'IPv4' | 'IPv6'
  readonly nft: 'ip' | 'ip6'
  readonly type: string
}

const FAMILIES: readonly Family[] = [
  { name: 'IPv4', nft: 'ip', type: 'ipv4_addr' },
  { name: 'IPv6', nft: 'ip6', type: 'ipv6_addr' },
]

interface Backend {
  readonly address: string
  readonly port: number
}

/**
 * The ruleset for all services of the index; applying it replaces the former one in one transaction. `serviceRanges`
 * are those that service addresses come from, as far as they are known.
 */
export function serviceRuleset(index: ServiceIndex, serviceRanges: readonly string[]): string {
  const parts = FAMILIES.map((family) => familyRules(family, index))
  // Where nobody tells the ranges, the addresses that services have must do.
  const refused =
    serviceRanges.length > 0
      ? serviceRanges
      : [...index.services()].flatMap((service) => service.clusterIps)
  return `add table inet ${SERVICE_TABLE}
delete table inet ${SERVICE_TABLE}
table inet ${SERVICE_TABLE} {
${parts.map((part) => part.chains).join('')}
  chain services {
${parts.map((part) => part.dispatch).join('')}  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    jump services
  }
  chain output {
    type nat hook output priority -100; policy accept;
    jump services
  }
  chain hairpin {
    type nat hook postrouting priority srcnat; policy accept;
${parts.map((part) => part.hairpin).join('')}  }
  # What still has a service address after translation has no endpoint or no such port.
  chain without-endpoint {
${FAMILIES.map((family) => rejectRule(family, refused)).join('')}  }
  chain forward-filter {
    type filter hook forward priority filter; policy accept;
    jump without-endpoint
  }
  chain output-filter {
    type filter hook output priority filter; policy accept;
    jump without-endpoint
  }
}
`
}

function rejectRule(family: Family, ranges: readonly string[]): string {
  const ofFamily = ranges.filter((range) => range.includes(':') === (family.name === 'IPv6'))
  return ofFamily.length === 0 ? '' : `    ${family.nft} daddr { ${ofFamily.join(', ')} } reject\n`
}

function familyRules(
  family: Family,
  index: ServiceIndex,
): { readonly chains: string; readonly dispatch: string; readonly hairpin: string } {
  const chains: string[] = []
  const dispatch: string[] = []
  const hairpins = new Set<string>()
  for (const service of index.services()) {
    const slices = index.slices(service).filter((slice) => slice.family === family.name)
    const clusterIps = service.clusterIps.filter(
      (ip) => ip.includes(':') === (family.name === 'IPv6'),
    )
    for (const clusterIp of clusterIps) {
      for (const port of service.ports) {
        const protocol = port.protocol.toLowerCase()
        if (protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'sctp') continue
        const backends = backendsOf(service, slices, port.name, port.protocol)
        if (backends.length === 0) continue
        const chain = `svc-${family.nft}-${protocol}-${service.namespace}-${service.name}-${port.port}`
        chains.push(
          `  chain ${chainName(chain)} {\n    meta l4proto ${protocol} dnat ${family.nft} to ${balance(backends)}\n  }\n`,
        )
        dispatch.push(`${clusterIp} . ${protocol} . ${port.port} : goto ${chainName(chain)}`)
        for (const { address } of backends) hairpins.add(`${address} . ${address}`)
      }
    }
  }
  if (dispatch.length === 0) return { chains: '', dispatch: '', hairpin: '' }
  return {
    chains: chains.join(''),
    dispatch: `    ${family.nft} daddr . meta l4proto . th dport vmap { ${dispatch.join(', ')} }\n`,
    // A pod that reached itself through a service must see an answer from the service, not from itself.
    hairpin: `    ct status dnat ${family.nft} saddr . ${family.nft} daddr { ${[...hairpins].join(', ')} } masquerade\n`,
  }
}

/** The endpoints that may get connections: ready ones, else (as kube-proxy does) those that still serve. */
function backendsOf(
  service: ServiceView,
  slices: readonly SliceView[],
  portName: string,
  protocol: string,
): readonly Backend[] {
  const candidates = slices.flatMap((slice) => {
    const port = slice.ports.find((each) => each.name === portName && each.protocol === protocol)
    if (port === undefined) return []
    return slice.endpoints.flatMap((endpoint) =>
      endpoint.addresses.map((address) => ({ address, port: port.port, endpoint })),
    )
  })
  const ready = candidates.filter((each) => each.endpoint.isReady || service.publishNotReady)
  return ready.length > 0 ? ready : candidates.filter((each) => each.endpoint.isServing)
}

function balance(backends: readonly Backend[]): string {
  const [only] = backends
  if (only !== undefined && backends.length === 1) {
    const host = only.address.includes(':') ? `[${only.address}]` : only.address
    return `${host}:${only.port}`
  }
  const choices = backends.map(({ address, port }, at) => `${at} : ${address} . ${port}`)
  return `numgen random mod ${backends.length} map { ${choices.join(', ')} }`
}

/** nftables names chains with 128 characters at most; service names may be longer than fits. */
function chainName(wanted: string): string {
  return wanted.length <= MAX_CHAIN_NAME ? wanted : `${wanted.slice(0, 100)}-${hash(wanted)}`
}

const MAX_CHAIN_NAME = 120

/** FNV-1a, 32 bits: only to tell long names apart. */
function hash(text: string): string {
  let value = 0x811c9dc5
  for (let at = 0; at < text.length; at += 1) {
    value = Math.imul(value ^ text.charCodeAt(at), 0x01000193) >>> 0
  }
  return value.toString(16)
}
