// SPDX-License-Identifier: Apache-2.0
// A Service in the shape of Istio's ztunnel, its endpoints included.

import { dumpPorts } from '../../mesh/model/gateway.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import { SERVICE } from '../../mesh/model/service.ts'
import type { IpFamilies, LoadBalancing, Service } from '../../mesh/model/types.ts'

const FAMILIES: Readonly<Record<IpFamilies, string | null>> = {
  automatic: null,
  ipv4: 'IPv4',
  ipv6: 'IPv6',
  dual: 'Dual',
}

/** The Service as `config_dump` shows it. */
export function dumpService(service: Service, mesh: MeshState): Record<string, unknown> {
  const endpoints: Record<string, unknown> = {}
  for (const workload of mesh.endpoints(service.key)) {
    const ports = workload.services.get(service.key)
    endpoints[workload.uid] = {
      workloadUid: workload.uid,
      service: service.key,
      port: dumpPorts(ports ?? workload.leaving.get(service.key) ?? []),
      status: workload.status === 'healthy' ? 'Healthy' : 'Unhealthy',
      // It serves only where there is nothing better.
      ...(ports === undefined ? { leaving: true } : {}),
    }
  }
  return {
    ...SERVICE.dump(service),
    loadBalancer: dumpLoadBalancing(service.loadBalancing),
    ipFamilies: FAMILIES[service.ipFamilies],
    endpoints,
  }
}

function dumpLoadBalancing(loadBalancing: LoadBalancing): Record<string, unknown> {
  const { mode, routingPreference, healthPolicy, sessionAffinity } = loadBalancing
  return {
    mode: capitalized(mode),
    routingPreferences: routingPreference.map(capitalized),
    healthPolicy: capitalized(healthPolicy),
    sessionAffinity,
  }
}

function capitalized(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1)
}
