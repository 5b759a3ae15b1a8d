// SPDX-License-Identifier: Apache-2.0
// Turns services, their endpoints and the pods' host ports into one nftables ruleset for a node: pure text out of data. It
// does what kube-proxy does for cluster IPs, external and load-balancer IPs and node ports, and what portmap does for host ports.

import { hashText } from '../../../mesh/hash-text.ts'
import { clusterCidrs, POD_NETS } from '../../network/addressing.ts'
import type { ServedPort, ServiceIndex, ServiceView, SliceView } from '../kube-view.ts'
import { anyOf, type Backend, backendsOf, sameForClient } from './backends.ts'
import type { HostPort } from './host-ports.ts'

const SERVICE_TABLE = 'ambit-lab-services'
/** On packets whose connection must look as if the node had made it, for its answers to come back here. As kube-proxy's. */
const MASQUERADE_MARK = '0x4000'

interface Family {
  readonly name: 'IPv4' | 'IPv6'
  readonly nft: 'ip' | 'ip6'
  readonly loopback: string
  readonly podRanges: string
}

const FAMILIES: readonly Family[] = [
  {
    name: 'IPv4',
    nft: 'ip',
    loopback: '127.0.0.0/8',
    podRanges: POD_NETS.map((net) => clusterCidrs(net).ip4).join(', '),
  },
  {
    name: 'IPv6',
    nft: 'ip6',
    loopback: '::1',
    podRanges: POD_NETS.map((net) => clusterCidrs(net).ip6).join(', '),
  },
]

export interface ClusterServices {
  readonly index: ServiceIndex
  /** Ranges that service addresses come from; empty when nobody tells them. */
  readonly serviceRanges: readonly string[]
  /** Of the node. */
  readonly hostPorts: readonly HostPort[]
}

/** What is gathered for a family: chains, and what leads to them. */
interface Rules {
  readonly chains: string[]
  /** Chain by `address . protocol . port`. Whoever claims an address that another has already does not get it. */
  readonly dispatch: Map<string, string>
  /** Chain by `protocol . port`, on the node's own addresses. */
  readonly nodePorts: Map<string, string>
  readonly hostPorts: string[]
  /** `address . address` of whoever may reach himself. */
  readonly hairpins: Set<string>
  /** `address . protocol . port` where there are endpoints, but none that this node may use. */
  readonly dropped: string[]
  /** `address . protocol . port` without any, of addresses that are in no service range. */
  readonly refused: string[]
  /** `protocol . port`, on the node's own addresses. */
  readonly droppedNodePorts: string[]
}

/** The ruleset of the node; applying it replaces the former one in one transaction. */
export function serviceRuleset(services: ClusterServices, node: string): string {
  const { index, serviceRanges } = services
  const parts = FAMILIES.map((family) => ({ family, rules: familyRules(family, services, node) }))
  const each = (text: (family: Family, rules: Rules) => string): string =>
    parts.map(({ family, rules }) => text(family, rules)).join('')
  // Where nobody tells the ranges, the addresses that services have must do.
  const clusterRanges =
    serviceRanges.length > 0
      ? serviceRanges
      : [...index.services()].flatMap((service) => service.clusterIps)
  return `add table inet ${SERVICE_TABLE}
delete table inet ${SERVICE_TABLE}
table inet ${SERVICE_TABLE} {
${each((_family, { chains }) => chains.join(''))}
  chain services {
${each(dispatchRules)}  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    jump services
  }
  chain output {
    type nat hook output priority -100; policy accept;
    jump services
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & ${MASQUERADE_MARK} == ${MASQUERADE_MARK} masquerade
${each(hairpinRule)}  }
  # What still has a service's address after translation has no endpoint here, or no such port.
  chain without-endpoint {
${each((family, rules) => withoutEndpoint(family, rules, clusterRanges))}  }
  chain forward-filter {
    type filter hook forward priority filter; policy accept;
    jump without-endpoint
  }
  chain output-filter {
    type filter hook output priority filter; policy accept;
    jump without-endpoint
  }
  chain input-filter {
    type filter hook input priority filter; policy accept;
${each(nodePortDrops)}  }
}
`
}

const set = (elements: Iterable<string>): string => `{ ${[...new Set(elements)].join(', ')} }`

const gotos = (chains: ReadonlyMap<string, string>): string =>
  set([...chains].map(([key, chain]) => `${key} : goto ${chain}`))

function dispatchRules(family: Family, { dispatch, nodePorts, hostPorts }: Rules): string {
  const { nft } = family
  const own = `fib daddr type local ${nft} daddr != ${family.loopback}`
  const byAddress = `    ${nft} daddr . meta l4proto . th dport vmap ${gotos(dispatch)}\n`
  const byPort = `    ${own} meta l4proto . th dport vmap ${gotos(nodePorts)}\n`
  const pods = hostPorts.map((rule) => `    ${own} ${rule}\n`).join('')
  return `${dispatch.size === 0 ? '' : byAddress}${nodePorts.size === 0 ? '' : byPort}${pods}`
}

/** A pod that reached itself through a service must see an answer from the service, not from itself. */
function hairpinRule({ nft }: Family, { hairpins }: Rules): string {
  if (hairpins.size === 0) return ''
  return `    ct status dnat ${nft} saddr . ${nft} daddr ${set(hairpins)} masquerade\n`
}

function withoutEndpoint(family: Family, rules: Rules, ranges: readonly string[]): string {
  const { nft } = family
  const to = `    ${nft} daddr . meta l4proto . th dport`
  const ofFamily = ranges.filter((range) => isOf(family, range))
  return [
    rules.dropped.length === 0 ? '' : `${to} ${set(rules.dropped)} drop\n`,
    rules.refused.length === 0 ? '' : `${to} ${set(rules.refused)} reject\n`,
    ofFamily.length === 0 ? '' : `    ${nft} daddr { ${ofFamily.join(', ')} } reject\n`,
  ].join('')
}

function nodePortDrops({ nft }: Family, { droppedNodePorts }: Rules): string {
  if (droppedNodePorts.length === 0) return ''
  const here = `meta nfproto ipv${nft === 'ip' ? 4 : 6} fib daddr type local`
  return `    ${here} meta l4proto . th dport ${set(droppedNodePorts)} drop\n`
}

const isOf = ({ name }: Family, address: string): boolean =>
  address.includes(':') === (name === 'IPv6')

function familyRules(family: Family, { index, hostPorts }: ClusterServices, node: string): Rules {
  const rules: Rules = {
    chains: [],
    dispatch: new Map(),
    nodePorts: new Map(),
    hostPorts: [],
    hairpins: new Set(),
    dropped: [],
    refused: [],
    droppedNodePorts: [],
  }
  const clusterIps = new Set([...index.services()].flatMap((service) => service.clusterIps))
  for (const service of index.services()) {
    const slices = index.slices(service).filter((slice) => slice.family === family.name)
    const externalIps = service.externalIps.filter((ip) => isOf(family, ip) && !clusterIps.has(ip))
    for (const port of service.ports)
      addPort(rules, family, { service, slices, port, node }, externalIps)
  }
  for (const port of hostPorts) addHostPort(rules, family, port)
  return rules
}

interface PortOfService {
  readonly service: ServiceView
  readonly slices: readonly SliceView[]
  readonly port: ServedPort
  readonly node: string
}

function addPort(
  rules: Rules,
  family: Family,
  each: PortOfService,
  externalIps: readonly string[],
): void {
  const { service, slices, port, node } = each
  const protocol = protocolOf(port.protocol)
  if (protocol === undefined) return
  const all = backendsOf(service, slices, port)
  const near = backendsOf(service, slices, port, node)
  const name = `${family.nft}-${protocol}-${service.namespace}-${service.name}-${port.port}`
  const suffix = `${protocol} . ${port.port}`
  const insideOnes = service.isLocalInside ? near : all
  const inside = addTargets(rules, family, `svc-${name}`, { ...each, backends: insideOnes })
  for (const address of service.clusterIps.filter((ip) => isOf(family, ip)))
    if (inside !== undefined) rules.dispatch.set(`${address} . ${suffix}`, inside)
    else if (all.length > 0) rules.dropped.push(`${address} . ${suffix}`)

  if (externalIps.length === 0 && port.nodePort === undefined) return
  const outside =
    all.length === 0 ? undefined : addOutside(rules, family, name, each, { all, near })
  for (const address of externalIps)
    if (outside === undefined) rules.refused.push(`${address} . ${suffix}`)
    else setNew(rules.dispatch, `${address} . ${suffix}`, outside)
  // A node port without endpoints is one that nobody listens on.
  if (port.nodePort === undefined || outside === undefined) return
  setNew(rules.nodePorts, `${protocol} . ${port.nodePort}`, outside)
  if (service.isLocalOutside && near.length === 0)
    rules.droppedNodePorts.push(`${protocol} . ${port.nodePort}`)
}

function setNew(chains: Map<string, string>, key: string, chain: string): void {
  if (!chains.has(key)) chains.set(key, chain)
}

/** The chain for what comes by an address that the world may know, which is given back by the node that took it. */
function addOutside(
  rules: Rules,
  family: Family,
  name: string,
  each: PortOfService,
  { all, near }: { readonly all: readonly Backend[]; readonly near: readonly Backend[] },
): string | undefined {
  const everywhere = addTargets(rules, family, `all-${name}`, { ...each, backends: all })
  if (everywhere === undefined) return undefined
  const chain = chainName(`ext-${name}`)
  const masquerade = `meta mark set meta mark | ${MASQUERADE_MARK}`
  let lines = [masquerade, `goto ${everywhere}`]
  if (each.service.isLocalOutside) {
    const here = addTargets(rules, family, `near-${name}`, { ...each, backends: near })
    // Whoever is inside of the cluster may use all; strangers keep their address, and so can have only what is here.
    lines = [
      `${family.nft} saddr { ${family.podRanges} } goto ${everywhere}`,
      `fib saddr type local ${masquerade} goto ${everywhere}`,
      ...(here === undefined ? [] : [`goto ${here}`]),
    ]
  }
  rules.chains.push(`  chain ${chain} {\n${lines.map((line) => `    ${line}\n`).join('')}  }\n`)
  return chain
}

/** The chain that picks one of the backends; undefined when there is none. */
function addTargets(
  rules: Rules,
  family: Family,
  wanted: string,
  { service, port, backends }: PortOfService & { readonly backends: readonly Backend[] },
): string | undefined {
  if (backends.length === 0) return undefined
  const chain = chainName(wanted)
  const key = `${service.namespace}/${service.name}`
  const target = service.isSticky ? sameForClient(backends, family.nft, key) : anyOf(backends)
  rules.chains.push(
    `  chain ${chain} {\n    meta l4proto ${port.protocol.toLowerCase()} dnat ${family.nft} to ${target}\n  }\n`,
  )
  for (const { address } of backends) rules.hairpins.add(`${address} . ${address}`)
  return chain
}

function addHostPort(rules: Rules, family: Family, each: HostPort): void {
  const protocol = protocolOf(each.protocol)
  if (protocol === undefined || (each.hostIp !== undefined && !isOf(family, each.hostIp))) return
  const address = each.addresses.find((ip) => isOf(family, ip))
  if (address === undefined) return
  const only = each.hostIp === undefined ? '' : `${family.nft} daddr ${each.hostIp} `
  const target = anyOf([{ address, port: each.port }])
  rules.hostPorts.push(`${only}${protocol} dport ${each.hostPort} dnat ${family.nft} to ${target}`)
  rules.hairpins.add(`${address} . ${address}`)
}

function protocolOf(protocol: string): string | undefined {
  const lower = protocol.toLowerCase()
  return lower === 'tcp' || lower === 'udp' || lower === 'sctp' ? lower : undefined
}

/** nftables names chains with 128 characters at most; service names may be longer than fits. */
function chainName(wanted: string): string {
  return wanted.length <= MAX_CHAIN_NAME
    ? wanted
    : `${wanted.slice(0, 100)}-${hashText(wanted).toString(16)}`
}

const MAX_CHAIN_NAME = 120
