// SPDX-License-Identifier: Apache-2.0
// What led into the mesh until not long ago: the addresses of pods that have ended, those of Services that were deleted, ports that nodes had
// for them, Services that have lost a pod. The mesh's word for it is ahead of the world's: a pod is captured until its sandbox is torn down,
// one that was deleted by force may run for its whole grace, and kube-proxy leads to the endpoints of a Service for a while after it is
// gone. So what has just been forgotten must not be called as what was never known: in plaintext, past policies and waypoints.

import type { MonotonicClock } from '../async/bucket.ts'
import { serviceAddressKeys, workloadAddressKeys } from './address-keys.ts'
import { type FormerHolder, FormerHolders } from './former-holders.ts'
import { waypointsOf } from './service-waypoints.ts'
import type { Service, ServiceKey, SocketAddress, Workload } from './types.ts'

/**
 * For what a pod that was deleted by force may run on, or a node be cut off, as a rule. Where addresses of pods are others' after them (a
 * cloud's machines), these cannot be called for so long from within the mesh.
 */
const WORKLOAD_KEPT_MS = 300_000
/** Longer than kube-proxy takes to hear and, with thousands of Services, to write its rules. */
const SERVICE_KEPT_MS = 60_000

/** What is remembered, for another thread. */
export interface FormerMemory {
  readonly workloads: readonly FormerHolder<string, Workload>[]
  readonly services: readonly FormerHolder<string, Service>[]
  readonly nodePorts: readonly FormerHolder<number, Service>[]
  readonly endpoints: readonly FormerHolder<ServiceKey, true>[]
}

/** Kept by the mesh state, which says what has changed and asks when it knows of nobody. */
export class FormerAddresses {
  readonly #workloads: FormerHolders<string, Workload>
  readonly #services: FormerHolders<string, Service>
  readonly #nodePorts: FormerHolders<number, Service>
  /** Services that nodes may yet lead to an endpoint of the mesh. */
  readonly #endpoints: FormerHolders<ServiceKey, true>

  constructor(now: MonotonicClock) {
    this.#workloads = new FormerHolders(WORKLOAD_KEPT_MS, now)
    this.#services = new FormerHolders(SERVICE_KEPT_MS, now)
    this.#nodePorts = new FormerHolders(SERVICE_KEPT_MS, now)
    this.#endpoints = new FormerHolders(SERVICE_KEPT_MS, now)
  }

  /** A workload is not what it was, or is gone. One that spoke no HBONE is none to be remembered, and whoever was before it neither. */
  workloadChanged(previous: Workload, next: Workload | undefined): void {
    const keys = next === undefined ? [] : workloadAddressKeys(next)
    const holder = previous.tunnelProtocol === 'hbone' ? previous : undefined
    for (const key of workloadAddressKeys(previous))
      if (!keys.includes(key)) this.#workloads.left(key, holder)
    if (holder === undefined) return
    for (const services of [holder.services, holder.leaving])
      for (const key of services.keys())
        if (next?.services.has(key) !== true && next?.leaving.has(key) !== true)
          this.#endpoints.left(key, true)
  }

  /**
   * The same of a Service. Others' than Kubernetes' are nothing that a node leads anywhere: without them an address is what it is.
   *
   * @param endpoints whom it led to
   */
  serviceChanged(
    previous: Service,
    next: Service | undefined,
    endpoints: Iterable<Workload>,
  ): void {
    const holder = previous.canonical && leadsIntoMesh(previous, endpoints) ? previous : undefined
    const keys = next === undefined ? [] : serviceAddressKeys(next)
    const hasAllPorts = previous.ports.every(({ servicePort }) => hasPort(next, servicePort))
    for (const key of serviceAddressKeys(previous))
      if (!hasAllPorts || !keys.includes(key)) this.#services.left(key, holder)
    for (const { nodePort } of previous.nodePorts)
      if (next?.nodePorts.some((each) => each.nodePort === nodePort) !== true)
        this.#nodePorts.left(nodePort, holder)
  }

  get memory(): FormerMemory {
    return {
      workloads: [...this.#workloads],
      services: [...this.#services],
      nodePorts: [...this.#nodePorts],
      endpoints: [...this.#endpoints],
    }
  }

  /** Remembers what another one does. */
  recall({ workloads, services, nodePorts, endpoints }: FormerMemory): void {
    this.#workloads.recall(workloads)
    this.#services.recall(services)
    this.#nodePorts.recall(nodePorts)
    this.#endpoints.recall(endpoints)
  }

  /** Drops what is too old. */
  prune(): void {
    for (const each of [this.#workloads, this.#services, this.#nodePorts, this.#endpoints])
      each.prune()
  }

  /** Who had the address under this key last, in the mesh. */
  workload(key: string): Workload | undefined {
    return this.#workloads.get(key)
  }

  /** The Service that the address, which is under this key, and the port led to last; its own address does with any port. */
  service(key: string, { address, port }: SocketAddress): Service | undefined {
    const service = this.#services.get(key)
    const isShared = service?.externalAddresses.includes(address) === true
    return isShared && !hasPort(service, port) ? undefined : service
  }

  /** Whether the Service has lost an endpoint of the mesh. */
  hadMeshEndpoint(service: ServiceKey): boolean {
    return this.#endpoints.get(service) === true
  }

  /** The Service that had this port of the nodes last. */
  serviceOfNodePort(port: number): Service | undefined {
    return this.#nodePorts.get(port)
  }
}

function leadsIntoMesh(service: Service, endpoints: Iterable<Workload>): boolean {
  if (service.loadBalancing.mode === 'passthrough') return false
  if (waypointsOf(service).length > 0) return true
  for (const { tunnelProtocol } of endpoints) if (tunnelProtocol === 'hbone') return true
  return false
}

function hasPort(service: Service | undefined, port: number): boolean {
  return service?.ports.some(({ servicePort }) => servicePort === port) === true
}
