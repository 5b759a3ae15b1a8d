// SPDX-License-Identifier: Apache-2.0
// What identity a workload proves, and which workload a proven identity at an address may be taken for.

import { parseSpiffeId, spiffeId } from './spiffe.ts'
import type { TrustPolicy } from './trust-policy.ts'
import type { MeshState } from '../model/mesh-state.ts'
import type { IpAddress, Service, SpiffeId, Workload } from '../model/types.ts'

/** The SPIFFE ID a workload proves. */
export function workloadIdentity(workload: Workload): SpiffeId {
  return spiffeId({
    trustDomain: workload.trustDomain,
    namespace: workload.namespace,
    serviceAccount: workload.serviceAccount,
  })
}

/** The destination workload's own identity and whatever else the service says its servers may prove. */
export function expectedIdentities(
  workload: Workload,
  service: Pick<Service, 'subjectAltNames'> | undefined,
): readonly SpiffeId[] {
  const own = workloadIdentity(workload)
  if (service === undefined || service.subjectAltNames.length === 0) return [own]
  const identities = new Set<SpiffeId>([own])
  for (const name of service.subjectAltNames) {
    const parsed = parseSpiffeId(name)
    if (parsed !== undefined) identities.add(parsed.id)
  }
  return [...identities]
}

/**
 * The workload at a peer's address, if it is one that proves the peer's identity. An address alone proves nothing: it
 * may have passed to another pod, or the peer may stand behind it; telemetry must not name whoever else lives there.
 */
export function provenWorkload(
  mesh: MeshState,
  address: IpAddress,
  identity: SpiffeId,
  trust: Pick<TrustPolicy, 'isSame'>,
): Workload | undefined {
  const workload = mesh.findWorkload(address)
  return workload !== undefined && trust.isSame(workloadIdentity(workload), identity)
    ? workload
    : undefined
}
