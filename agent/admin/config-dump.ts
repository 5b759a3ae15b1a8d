// SPDX-License-Identifier: Apache-2.0
// The agent's state in the form that `istioctl ztunnel-config`, Kiali and people read: GET /config_dump. Never holds a key.

import type { CertificateStatus } from '../../mesh/identity/certificate-manager.ts'
import { parseSpiffeId } from '../../mesh/identity/spiffe.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import { WORKLOAD } from '../../mesh/model/workload.ts'
import { encodeMeshState } from '../../mesh/xds/wire-state.ts'
import type { DiscoveryReport } from '../../mesh/xds/discovery-health.ts'
import type { PodStanding } from '../enrolment/index.ts'
import type { LocalPod } from '../proxy/local-pod.ts'
import type { ConnectionDump } from '../proxy/open-connections.ts'
import { dumpCertificate } from '../../mesh/identity/dumped-certificate.ts'
import { NETWORK_POLICY } from '../../mesh/model/network-policy.ts'
import { dumpPolicy } from './dumped-policy.ts'
import { dumpService } from './dumped-service.ts'

export interface ConfigDumpSources {
  readonly mesh: MeshState
  readonly certificates: () => readonly CertificateStatus[]
  readonly pods: () => readonly LocalPod[]
  readonly connections: () => Promise<ReadonlyMap<string, readonly ConnectionDump[]>>
  /** How each pod of the node stands. */
  readonly standings: () => readonly PodStanding[]
  readonly discovery: () => DiscoveryReport
  /** What the agent waits for before it is ready. */
  readonly pending: () => readonly string[]
  readonly version: string
  /** The agent's own configuration, without secrets. */
  readonly config: Readonly<Record<string, unknown>>
}

export interface ConfigDumpOptions {
  /** With the mesh state in its own encoding, from which it can be made again. */
  readonly withResources: boolean
  /** Without what the control plane tells everybody (workloads, services, policies): for who asks every agent every few seconds. */
  readonly isLocal?: boolean
}

/** Makes the whole dump. */
export async function configDump(
  sources: ConfigDumpSources,
  { withResources, isLocal = false }: ConfigDumpOptions = { withResources: false },
): Promise<Record<string, unknown>> {
  const { mesh } = sources
  return {
    ...(isLocal ? {} : dumpMesh(mesh)),
    certificates: sources.certificates().map(dumpCertificate),
    workloadState: await dumpPods(sources),
    capture: sources.standings(),
    discovery: sources.discovery(),
    pending: sources.pending(),
    version: { version: sources.version },
    config: sources.config,
    ...(withResources ? { resources: encodeMeshState(mesh) } : {}),
  }
}

function dumpMesh(mesh: MeshState): Record<string, unknown> {
  return {
    workloads: [...mesh.workloads()].map(WORKLOAD.dump),
    services: [...mesh.services()].map((service) => dumpService(service, mesh)),
    policies: [...mesh.policies].map(dumpPolicy),
    unreadablePolicies: [...mesh.policies.allUnreadable()],
    networkPolicies: [...mesh.networkPolicies].map(NETWORK_POLICY.dump),
    unreadableNetworkPolicies: [...mesh.networkPolicies.allUnreadable()],
  }
}

async function dumpPods(sources: ConfigDumpSources): Promise<Record<string, unknown>> {
  const connections = await sources.connections()
  return Object.fromEntries(
    sources.pods().map((pod) => {
      const open = connections.get(pod.uid) ?? []
      return [
        pod.uid,
        {
          state: connections.has(pod.uid) ? 'Up' : 'Pending',
          connections: {
            inbound: open.filter(({ direction }) => direction === 'inbound'),
            outbound: open.filter(({ direction }) => direction === 'outbound'),
          },
          info: {
            name: pod.name,
            namespace: pod.namespace,
            trustDomain: parseSpiffeId(pod.identity)?.trustDomain ?? '',
            serviceAccount: pod.serviceAccount,
            identity: pod.identity,
            workloadUid: pod.workloadUid,
            addresses: pod.addresses,
          },
        },
      ]
    }),
  )
}
