// SPDX-License-Identifier: Apache-2.0
// Makes equal parts of the mesh model share memory. Every decoded or cloned resource brings its own copy of the same
// namespace, node, service account and port list; an agent holds the whole mesh, so that is most of its memory.

import type { Service, Workload, WorkloadPort, ServiceKey, Locality } from './types.ts'

/** Past this many entries a pool starts afresh: sharing is only an economy, and names come and go for ever. */
const POOL_LIMIT = 50_000

/** A pool of values by their content's key. */
class Pool<T> {
  readonly #values = new Map<string, T>()

  share(key: string, value: T): T {
    const known = this.#values.get(key)
    if (known !== undefined) return known
    if (this.#values.size >= POOL_LIMIT) this.#values.clear()
    this.#values.set(key, value)
    return value
  }
}

/** Shares the parts of workloads and services that many have in common. One per mesh state. */
export class Compactor {
  readonly #strings = new Pool<string>()
  readonly #memberships = new Pool<Workload['services']>()
  readonly #localities = new Pool<Locality>()
  readonly #lists = new Pool<readonly string[]>()

  workload(workload: Workload): Workload {
    return {
      uid: workload.uid,
      name: workload.name,
      namespace: this.#string(workload.namespace),
      addresses: workload.addresses,
      hostname: this.#string(workload.hostname),
      network: this.#string(workload.network),
      tunnelProtocol: workload.tunnelProtocol,
      trustDomain: this.#string(workload.trustDomain),
      serviceAccount: this.#string(workload.serviceAccount),
      node: this.#string(workload.node),
      canonicalName: this.#string(workload.canonicalName),
      canonicalRevision: this.#string(workload.canonicalRevision),
      workloadType: workload.workloadType,
      workloadName: this.#string(workload.workloadName),
      nativeTunnel: workload.nativeTunnel,
      services: this.#membership(workload.services),
      authorizationPolicies: this.#list(workload.authorizationPolicies),
      status: workload.status,
      clusterId: this.#string(workload.clusterId),
      locality: this.#locality(workload.locality),
      foundBy: workload.foundBy,
      waypoint: workload.waypoint,
      networkGateway: workload.networkGateway,
      capacity: workload.capacity,
    }
  }

  service(service: Service): Service {
    return { ...service, namespace: this.#string(service.namespace) }
  }

  #string(value: string): string {
    return this.#strings.share(value, value)
  }

  #list(values: readonly string[]): readonly string[] {
    return this.#lists.share(values.join('\n'), values)
  }

  #locality(locality: Locality): Locality {
    return this.#localities.share(
      `${locality.region}\n${locality.zone}\n${locality.subzone}`,
      locality,
    )
  }

  #membership(services: Workload['services']): Workload['services'] {
    let key = ''
    for (const [service, ports] of services) key += `${service}${portsKey(ports)}\n`
    const shared = new Map<ServiceKey, readonly WorkloadPort[]>()
    for (const [service, ports] of services) shared.set(this.#string(service) as ServiceKey, ports)
    return this.#memberships.share(key, shared)
  }
}

function portsKey(ports: readonly WorkloadPort[]): string {
  let key = ''
  for (const port of ports) key += ` ${port.servicePort}:${port.targetPort}:${port.appProtocol}`
  return key
}
