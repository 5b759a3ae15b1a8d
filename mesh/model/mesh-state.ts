// SPDX-License-Identifier: Apache-2.0
// What the mesh consists of, as one process sees it, with the lookups the data path makes. It is fed by changes (from
// xDS, or from the main thread to its workers) and never asks anybody. Hot: each connection makes two or three lookups;
// watched by bench/mesh-state.ts.

import type { MonotonicClock } from '../async/bucket.ts'
import { isInPrefix } from './address.ts'
import {
  addressKey,
  nodeAddressKeys,
  serviceAddressKeys,
  workloadAddressKeys,
} from './address-keys.ts'
import { BackendTlsIndex } from './backend-tls-index.ts'
import { Pools } from './codec/pools.ts'
import { FormerAddresses, type FormerMemory } from './former-addresses.ts'
import { HttpRouteIndex } from './http-route-index.ts'
import { MultiIndex, reindex } from './multi-index.ts'
import { MESH_NODE } from './mesh-node.ts'
import { isPodWorkloadUid } from './names.ts'
import { isSamePorts } from './network-policy.ts'
import { NetworkPolicyIndex } from './network-policy-index.ts'
import { PolicyIndex } from './policy-index.ts'
import { SERVICE } from './service.ts'
import type {
  IpAddress,
  MeshChange,
  MeshNode,
  NodeKey,
  Service,
  ServiceKey,
  SocketAddress,
  Workload,
  WorkloadUid,
} from './types.ts'
import { WaypointPolicyIndex } from './waypoint-policy-index.ts'
import { WORKLOAD } from './workload.ts'

export interface MeshStateOptions {
  /** The network this process lives in: addresses it sees on sockets belong to it. */
  readonly network?: string
  /** Policies of this namespace may concern the whole mesh; `istio-system` when left out. */
  readonly rootNamespace?: string
  readonly now?: MonotonicClock
}

export type MeshStateListener = (changes: readonly MeshChange[]) => void

/** The Service that an address and port lead to, and how they do. */
export interface ServiceMatch {
  readonly service: Service
  readonly servicePort: number
  /** By its own address, by one that others may have, too, or by the address of a node. */
  readonly by: 'own' | 'external' | 'nodePort'
  /** The node, where it was by one's address. */
  readonly node: MeshNode | undefined
}

interface AddressRange {
  readonly network: string
  readonly base: IpAddress
  readonly prefixLength: number
  readonly service: Service
}

const NO_KEYS: readonly never[] = []

/** The workloads and services of the mesh and the indexes over them. */
export class MeshState {
  readonly #network: string
  readonly #pools = new Pools()
  readonly #workloads = new Map<WorkloadUid, Workload>()
  /** What is wrong with what was said last of them. */
  readonly #unreadableWorkloads = new Map<WorkloadUid, string>()
  readonly #services = new Map<ServiceKey, Service>()
  readonly #workloadsByAddress = new MultiIndex<string, Workload>()
  // Kept for services that have not arrived yet, too: order of arrival does not matter.
  readonly #endpoints = new MultiIndex<ServiceKey, Workload>()
  /** Of services without any the pod that was the last: one each, forgotten with the service. */
  readonly #lastEndpoints = new Map<ServiceKey, Workload>()
  readonly #servicesByAddress = new MultiIndex<string, Service>()
  readonly #servicesByHostname = new MultiIndex<string, Service>()
  readonly #servicesByNodePort = new MultiIndex<number, Service>()
  readonly #nodes = new Map<NodeKey, MeshNode>()
  readonly #nodesByAddress = new MultiIndex<string, MeshNode>()
  readonly policies: PolicyIndex
  readonly networkPolicies = new NetworkPolicyIndex()
  readonly httpRoutes = new HttpRouteIndex()
  readonly backendTls = new BackendTlsIndex()
  readonly waypointPolicies: WaypointPolicyIndex
  /** Few (ServiceEntry CIDRs), so a list, the most specific first. */
  #ranges: readonly AddressRange[] = []
  readonly #former: FormerAddresses
  readonly #listeners = new Set<MeshStateListener>()
  #movedAddresses = new Set<IpAddress>()

  constructor(options: MeshStateOptions = {}) {
    this.#network = options.network ?? ''
    this.#former = new FormerAddresses(options.now ?? (() => performance.now()))
    this.policies = new PolicyIndex(options.rootNamespace)
    this.waypointPolicies = new WaypointPolicyIndex(options.rootNamespace)
  }

  /** Applies changes in order, then tells the subscribers once. */
  apply(changes: readonly MeshChange[]): void {
    this.#movedAddresses = new Set()
    this.#former.prune()
    for (const change of changes) this.#applyOne(change)
    for (const listener of this.#listeners) listener(changes)
  }

  /** Calls back after each applied batch; returns the unsubscriber. */
  subscribe(listener: MeshStateListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** The addresses of workloads that are not there any more since the last batch, or are other peers to NetworkPolicies than before it. */
  get movedAddresses(): ReadonlySet<IpAddress> {
    return this.#movedAddresses
  }

  workload(uid: WorkloadUid): Workload | undefined {
    return this.#workloads.get(uid)
  }

  /** What is wrong with what was said last of the workload; workload() has it as it was said before, if it was. */
  unreadableWorkload(uid: WorkloadUid): string | undefined {
    return this.#unreadableWorkloads.get(uid)
  }

  /** Those of which what was said last cannot be read, with what is wrong with it. */
  unreadableWorkloads(): Iterable<[WorkloadUid, string]> {
    return this.#unreadableWorkloads
  }

  service(key: ServiceKey): Service | undefined {
    return this.#services.get(key)
  }

  workloads(): Iterable<Workload> {
    return this.#workloads.values()
  }

  services(): Iterable<Service> {
    return this.#services.values()
  }

  /** Changes that make an empty state equal to this one. */
  snapshot(): MeshChange[] {
    const changes: MeshChange[] = [
      ...this.networkPolicies.snapshot(),
      ...this.policies.snapshot(),
      ...this.httpRoutes.snapshot(),
      ...this.backendTls.snapshot(),
      ...this.waypointPolicies.snapshot(),
    ]
    for (const node of this.#nodes.values()) changes.push({ kind: 'node', node })
    for (const service of this.#services.values()) changes.push({ kind: 'service', service })
    for (const workload of this.#workloads.values()) changes.push({ kind: 'workload', workload })
    for (const [uid, reason] of this.#unreadableWorkloads)
      changes.push({ kind: 'workloadUnreadable', uid, reason })
    return changes
  }

  /** What it remembers of what is in no snapshot any more. */
  get formerly(): FormerMemory {
    return this.#former.memory
  }

  /** Remembers what another state does. */
  recall(formerly: FormerMemory): void {
    this.#former.recall(formerly)
  }

  get size(): { readonly workloads: number; readonly services: number } {
    return { workloads: this.#workloads.size, services: this.#services.size }
  }

  /**
   * The workload that has this address: of several claimants a pod beats others, HBONE beats none, and then the
   * newest claim wins (an address is reused before its old holder's removal has travelled).
   */
  findWorkload(address: IpAddress): Workload | undefined {
    let best: Workload | undefined
    for (const candidate of this.#workloadsByAddress.get(addressKey(this.#network, address)))
      if (best === undefined || claimRank(candidate) >= claimRank(best)) best = candidate
    return best
  }

  /**
   * The service that this address and port lead to. Its own address does with any port: of several services the one in
   * the client's namespace, then a Kubernetes Service before others, then the first by key. An address that it shares with
   * others (Service.externalAddresses) and a node's lead to it with its ports only. Address ranges come last, the narrowest first.
   */
  findService({ address, port }: SocketAddress, clientNamespace: string): ServiceMatch | undefined {
    const key = addressKey(this.#network, address)
    const exact = this.#servicesByAddress.get(key)
    const own = preferredService(exact, clientNamespace, (each) => !isExternal(each, address))
    if (own !== undefined) return { service: own, servicePort: port, by: 'own', node: undefined }
    const external =
      exact.length === 0
        ? undefined
        : preferredService(exact, clientNamespace, (each) => hasPort(each, port))
    if (external !== undefined)
      return { service: external, servicePort: port, by: 'external', node: undefined }
    const behindNode = this.#findByNodePort(key, port, clientNamespace)
    if (behindNode !== undefined || this.#ranges.length === 0) return behindNode
    const wide = this.#findServiceByRange(address, clientNamespace)
    return wide && { service: wide, servicePort: port, by: 'own', node: undefined }
  }

  /** Who spoke HBONE at an address where nobody is known any more, a few minutes ago at the most. */
  formerWorkload(address: IpAddress): Workload | undefined {
    return this.#former.workload(addressKey(this.#network, address))
  }

  /** The Service of the mesh that an address and port led to, by whatever findService() goes by, a minute ago at the most. */
  formerService(asked: SocketAddress): Service | undefined {
    const key = addressKey(this.#network, asked.address)
    const former = this.#former.service(key, asked)
    if (former !== undefined || this.#nodesByAddress.get(key).length === 0) return former
    return this.#former.serviceOfNodePort(asked.port)
  }

  /** Whether the Service has lost an endpoint of the mesh, a minute ago at the most: nodes may lead to that one yet. */
  hadMeshEndpoint(service: ServiceKey): boolean {
    return this.#former.hadMeshEndpoint(service)
  }

  /** The service of this host name, chosen among several as by address. */
  findServiceByHostname(hostname: string, clientNamespace: string): Service | undefined {
    return preferredService(this.#servicesByHostname.get(hostname), clientNamespace)
  }

  /** All workloads that belong to the service, healthy, leaving or neither; valid until the next apply(). */
  endpoints(service: ServiceKey): readonly Workload[] {
    return this.#endpoints.get(service)
  }

  /** Of a known service that has no endpoints (any more): the pod that was the last, as it was known then. */
  lastEndpoint(service: ServiceKey): Workload | undefined {
    return this.#lastEndpoints.get(service)
  }

  #applyOne(change: MeshChange): void {
    switch (change.kind) {
      case 'workload':
        return this.#setWorkload(change.workload.uid, WORKLOAD.share(change.workload, this.#pools))
      case 'workloadRemoved':
        return this.#setWorkload(change.uid, undefined)
      case 'workloadUnreadable':
        this.#unreadableWorkloads.set(change.uid, change.reason)
        return
      case 'service':
        return this.#setService(change.service.key, SERVICE.share(change.service, this.#pools))
      case 'serviceRemoved':
        return this.#setService(change.key, undefined)
      case 'node':
        return this.#setNode(change.node.key, MESH_NODE.share(change.node, this.#pools))
      case 'nodeRemoved':
        return this.#setNode(change.key, undefined)
      case 'policy':
        return this.policies.set(change.policy)
      case 'policyRemoved':
        return this.policies.remove(change.key)
      case 'policyUnreadable':
        return this.policies.setUnreadable(change.policy)
      case 'policyKnowledge':
        this.policies.knowledge = change.is
        return
      case 'networkPolicy':
        return this.networkPolicies.set(change.policy)
      case 'networkPolicyRemoved':
        return this.networkPolicies.remove(change.key)
      case 'networkPolicyUnreadable':
        return this.networkPolicies.setUnreadable(change.policy)
      case 'httpRoutes':
        return this.httpRoutes.set(change.routes)
      case 'httpRoutesRemoved':
        return this.httpRoutes.remove(change.key)
      case 'backendTls':
        return this.backendTls.set(change.tls)
      case 'backendTlsRemoved':
        return this.backendTls.remove(change.key)
      case 'waypointPolicy':
        return this.waypointPolicies.set(change.policy)
      case 'waypointPolicyRemoved':
        return this.waypointPolicies.remove(change.key)
      case 'waypointPolicyUnreadable':
        return this.waypointPolicies.setUnreadable(change.policy)
    }
  }

  #setWorkload(uid: WorkloadUid, next: Workload | undefined): void {
    const previous = this.#workloads.get(uid)
    this.#unreadableWorkloads.delete(uid)
    if (next === undefined) this.#workloads.delete(uid)
    else this.#workloads.set(uid, next)
    if (previous !== undefined && !isSamePeer(previous, next))
      for (const address of [...previous.addresses, ...(next?.addresses ?? [])])
        this.#movedAddresses.add(address)
    if (previous !== undefined) this.#former.workloadChanged(previous, next)
    move(this.#workloadsByAddress, previous, next, workloadAddressKeys)
    move(this.#endpoints, previous, next, serviceKeys)
    for (const key of next === undefined ? NO_KEYS : serviceKeys(next))
      this.#lastEndpoints.delete(key)
    if (previous !== undefined && isPodWorkloadUid(uid)) this.#rememberLast(previous)
  }

  /** After it has left them, or may have. */
  #rememberLast(previous: Workload): void {
    for (const key of serviceKeys(previous))
      if (this.#services.has(key) && this.#endpoints.get(key).length === 0)
        this.#lastEndpoints.set(key, previous)
  }

  #setService(key: ServiceKey, next: Service | undefined): void {
    const previous = this.#services.get(key)
    if (previous !== undefined) {
      const last = this.#lastEndpoints.get(key)
      const endpoints = last === undefined ? this.#endpoints.get(key) : [last]
      this.#former.serviceChanged(previous, next, endpoints)
    }
    if (next === undefined) {
      this.#services.delete(key)
      this.#lastEndpoints.delete(key)
    } else this.#services.set(key, next)
    move(this.#servicesByAddress, previous, next, serviceAddressKeys)
    move(this.#servicesByHostname, previous, next, (service) => [service.hostname])
    move(this.#servicesByNodePort, previous, next, ({ nodePorts }) =>
      nodePorts.map(({ nodePort }) => nodePort),
    )
    if (hasRange(previous) || hasRange(next)) this.#rebuildRanges()
  }

  #setNode(key: NodeKey, next: MeshNode | undefined): void {
    const previous = this.#nodes.get(key)
    if (next === undefined) this.#nodes.delete(key)
    else this.#nodes.set(key, next)
    move(this.#nodesByAddress, previous, next, nodeAddressKeys)
  }

  #findByNodePort(key: string, port: number, clientNamespace: string): ServiceMatch | undefined {
    const [node] = this.#nodesByAddress.get(key)
    if (node === undefined) return undefined
    const service = preferredService(this.#servicesByNodePort.get(port), clientNamespace)
    const nodePort = service?.nodePorts.find((each) => each.nodePort === port)
    if (service === undefined || nodePort === undefined) return undefined
    return { service, servicePort: nodePort.servicePort, by: 'nodePort', node }
  }

  #rebuildRanges(): void {
    const ranges: AddressRange[] = []
    for (const service of this.#services.values())
      for (const { network, address, prefixLength } of service.addresses)
        if (prefixLength !== undefined)
          ranges.push({ network, base: address, prefixLength, service })
    this.#ranges = ranges.sort((left, right) => right.prefixLength - left.prefixLength)
  }

  #findServiceByRange(address: IpAddress, clientNamespace: string): Service | undefined {
    const containing = this.#ranges.filter(
      (range) =>
        range.network === this.#network && isInPrefix(address, range.base, range.prefixLength),
    )
    const own = containing.filter((range) => range.service.namespace === clientNamespace)
    const pool = own.length > 0 ? own : containing
    const narrowest = pool.filter((range) => range.prefixLength === pool[0]?.prefixLength)
    return preferredService(
      narrowest.map((range) => range.service),
      clientNamespace,
    )
  }
}

/** As what NetworkPolicies go by. */
function isSamePeer(previous: Workload, next: Workload | undefined): boolean {
  if (next === undefined || next.foundBy !== previous.foundBy) return false
  return (
    isSame(previous.peerGroups, next.peerGroups) &&
    isSame(previous.addresses, next.addresses) &&
    // Of the one that is called by a port's name.
    isSamePorts(previous.namedPorts, next.namedPorts)
  )
}

function isSame(left: readonly string[], right: readonly string[]): boolean {
  return (
    left === right ||
    (left.length === right.length && left.every((each, index) => each === right[index]))
  )
}

function move<K, V>(
  index: MultiIndex<K, V>,
  previous: V | undefined,
  next: V | undefined,
  keysOf: (value: V) => readonly K[],
): void {
  reindex(
    index,
    previous === undefined ? undefined : { value: previous, keys: keysOf(previous) },
    next === undefined ? undefined : { value: next, keys: keysOf(next) },
  )
}

function hasRange(service: Service | undefined): boolean {
  return service?.addresses.some(({ prefixLength }) => prefixLength !== undefined) ?? false
}

function serviceKeys({ services, leaving }: Workload): readonly ServiceKey[] {
  return leaving.size === 0
    ? [...services.keys()]
    : [...new Set([...services.keys(), ...leaving.keys()])]
}

function isExternal(service: Service, address: IpAddress): boolean {
  return service.externalAddresses.includes(address)
}

function hasPort(service: Service, port: number): boolean {
  return service.ports.some(({ servicePort }) => servicePort === port)
}

function claimRank(workload: Workload): number {
  return (isPodWorkloadUid(workload.uid) ? 2 : 0) + (workload.tunnelProtocol === 'hbone' ? 1 : 0)
}

function preferredService(
  candidates: readonly Service[],
  clientNamespace: string,
  isCandidate: (service: Service) => boolean = () => true,
): Service | undefined {
  let best: Service | undefined
  for (const candidate of candidates) {
    if (!isCandidate(candidate)) continue
    if (best === undefined || isPreferred(candidate, best, clientNamespace)) best = candidate
  }
  return best
}

function isPreferred(candidate: Service, best: Service, clientNamespace: string): boolean {
  const candidateIsNear = candidate.namespace === clientNamespace
  if (candidateIsNear !== (best.namespace === clientNamespace)) return candidateIsNear
  if (candidate.canonical !== best.canonical) return candidate.canonical
  return candidate.key < best.key
}
