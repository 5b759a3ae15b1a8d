// SPDX-License-Identifier: Apache-2.0
// The agent's state in the form that `istioctl ztunnel-config` and people read: GET /config_dump. Never holds a key.

import type { CertificateStatus } from '../../mesh/identity/certificate-manager.ts'
import { dumpPorts } from '../../mesh/model/gateway.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import { POLICY } from '../../mesh/model/policy.ts'
import { SERVICE } from '../../mesh/model/service.ts'
import type { Service, SpiffeId } from '../../mesh/model/types.ts'
import { WORKLOAD } from '../../mesh/model/workload.ts'
import type { LocalPod } from '../proxy/local-pod.ts'
import type { ConnectionDump } from '../proxy/open-connections.ts'

export interface ConfigDumpSources {
  readonly mesh: MeshState
  readonly certificates: () => readonly CertificateStatus[]
  readonly pods: () => readonly LocalPod[]
  readonly connections: () => Promise<ReadonlyMap<string, readonly ConnectionDump[]>>
  readonly version: string
  /** The agent's own configuration, without secrets. */
  readonly config: Readonly<Record<string, unknown>>
}

/** Makes the whole dump. */
export async function configDump(sources: ConfigDumpSources): Promise<Record<string, unknown>> {
  const { mesh } = sources
  return {
    workloads: [...mesh.workloads()].map(WORKLOAD.dump),
    services: [...mesh.services()].map((service) => dumpService(service, mesh)),
    policies: [...mesh.policies].map(POLICY.dump),
    unreadablePolicies: [...mesh.policies.allUnreadable()],
    certificates: sources.certificates().map(dumpCertificate),
    workloadState: await dumpPods(sources),
    version: { version: sources.version },
    config: sources.config,
  }
}

function dumpService(service: Service, mesh: MeshState): Record<string, unknown> {
  const endpoints: Record<string, unknown> = {}
  for (const workload of mesh.endpoints(service.key))
    endpoints[workload.uid] = {
      workloadUid: workload.uid,
      service: service.key,
      port: dumpPorts(workload.services.get(service.key) ?? []),
    }
  return { ...SERVICE.dump(service), endpoints }
}

function dumpCertificate(status: CertificateStatus): Record<string, unknown> {
  const one = {
    serialNumber: status.serialNumber,
    validFrom: status.notBefore?.toISOString(),
    expirationTime: status.notAfter?.toISOString(),
  }
  return {
    identity: status.identity satisfies SpiffeId,
    state: { initializing: 'Initializing', available: 'Available', unavailable: 'Unavailable' }[
      status.state
    ],
    certChain: status.chainPem === undefined ? [] : [{ pem: status.chainPem, ...one }],
    rootCerts: status.rootsPem === undefined ? [] : [{ pem: status.rootsPem }],
    ...(status.lastFailure === undefined ? {} : { lastFailure: status.lastFailure.message }),
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
            serviceAccount: pod.serviceAccount,
            addresses: pod.addresses,
          },
        },
      ]
    }),
  )
}
