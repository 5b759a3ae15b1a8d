// SPDX-License-Identifier: Apache-2.0
// The services of the mesh, from facts about a Kubernetes Service. Pure.

import type { ServiceWaypoints } from '../../mesh/model/service-waypoints.ts'
import type { IpAddress, NodePort, Service, ServiceKey } from '../../mesh/model/types.ts'
import { externalClaims, type LostClaims } from './claim.ts'
import type { TranslateConfig } from './config.ts'
import { serviceKeyOf, type ServiceFacts } from './service.ts'
import { loadBalancingOf, type TrafficDistribution } from './traffic-distribution.ts'

/** What others say of a Service. */
export interface ServiceStanding {
  /** What its namespace wishes for the traffic of its services. */
  readonly distribution: TrafficDistribution | undefined
  /** What it claims and does not get. */
  readonly lost: LostClaims | undefined
  readonly waypoints: ServiceWaypoints
}

/** The mesh services of an object: one for each of its host names. */
export function meshServicesOf(
  config: TranslateConfig,
  service: ServiceFacts,
  { distribution, lost, waypoints }: ServiceStanding,
): readonly (readonly [ServiceKey, Service])[] {
  const { namespace, name } = service
  const isHeld = ({ value }: { readonly value: IpAddress }): boolean =>
    lost?.addresses.has(value) !== true
  const external = externalClaims(service).filter(isHeld)
  const addresses = [...service.clusterIps.filter(isHeld), ...external]
  return service.hosts.map((hostname) => {
    const key = serviceKeyOf(namespace, hostname)
    const meshService: Service = {
      key,
      name,
      namespace,
      hostname,
      addresses: addresses.map(({ value }) => ({
        network: config.network,
        address: value,
        prefixLength: undefined,
      })),
      ports: service.ports.map(({ servicePort, target, appProtocol }) => ({
        servicePort,
        // 0 on the wire: each workload says its own.
        targetPort: typeof target === 'number' ? target : 0,
        appProtocol,
      })),
      subjectAltNames: [],
      ...waypoints,
      loadBalancing: loadBalancingOf(service, distribution),
      ipFamilies: service.ipFamilies,
      canonical: true,
      externalAddresses: external.map(({ value }) => value),
      nodePorts: nodePortsOf(service, lost),
      nodePortScope: service.nodePortScope,
    }
    return [key, meshService]
  })
}

function nodePortsOf({ ports }: ServiceFacts, lost: LostClaims | undefined): readonly NodePort[] {
  return ports.flatMap(({ nodePort, servicePort }) =>
    nodePort === undefined || lost?.nodePorts.has(nodePort) === true
      ? []
      : [{ nodePort, servicePort }],
  )
}
