// SPDX-License-Identifier: Apache-2.0
// The services of the mesh, from facts about a Kubernetes Service. Pure.

import { isIpv4Address } from '../../mesh/model/address.ts'
import type { Service, ServiceKey } from '../../mesh/model/types.ts'
import type { TranslateConfig } from './config.ts'
import { serviceKeyOf, type ServiceFacts } from './service.ts'
import { loadBalancingOf, type TrafficDistribution } from './traffic-distribution.ts'

/** The mesh services of an object: one for each of its host names. */
export function meshServicesOf(
  config: TranslateConfig,
  service: ServiceFacts,
  namespaceDistribution: TrafficDistribution | undefined,
): readonly (readonly [ServiceKey, Service])[] {
  return service.hosts.map((hostname) => {
    const key = serviceKeyOf(service.namespace, hostname)
    return [key, meshServiceOf(config, key, hostname, service, namespaceDistribution)]
  })
}

function meshServiceOf(
  config: TranslateConfig,
  key: ServiceKey,
  hostname: string,
  service: ServiceFacts,
  namespaceDistribution: TrafficDistribution | undefined,
): Service {
  return {
    key,
    name: service.name,
    namespace: service.namespace,
    hostname,
    addresses: service.addresses.map((address) => ({
      network: config.network,
      address,
      prefixLength: undefined,
    })),
    ports: service.ports.map(({ servicePort, target, appProtocol }) => ({
      servicePort,
      // 0 on the wire: each workload says its own.
      targetPort: typeof target === 'number' ? target : 0,
      appProtocol,
    })),
    subjectAltNames: [],
    waypoint: undefined,
    loadBalancing: loadBalancingOf(service, namespaceDistribution),
    ipFamilies:
      service.ipFamilies === 'automatic' ? familiesOf(service.addresses) : service.ipFamilies,
    canonical: true,
    externalAddresses: [],
    nodePorts: [],
    nodePortScope: 'cluster',
  }
}

function familiesOf(addresses: ServiceFacts['addresses']): Service['ipFamilies'] {
  if (addresses.length === 0) return 'automatic'
  if (addresses.every(isIpv4Address)) return 'ipv4'
  return addresses.some(isIpv4Address) ? 'dual' : 'ipv6'
}
