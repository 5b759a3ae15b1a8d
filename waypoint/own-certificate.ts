// SPDX-License-Identifier: Apache-2.0
// The waypoint's own certificate: signed by the mesh's authority, or from a SPIFFE Workload API.

import { CaClient } from '../mesh/identity/ca-client.ts'
import { CertificateManager } from '../mesh/identity/certificate-manager.ts'
import { SignedCertificates } from '../mesh/identity/signed-certificates.ts'
import { WorkloadApi } from '../mesh/identity/spire/workload-api.ts'
import type { CertificateSupply } from '../mesh/identity/types.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import type { WaypointConfig } from './config.ts'

/** Let go of with what was started. */
export function ownCertificate(
  config: WaypointConfig,
  log: Logger,
  started: AsyncDisposableStack,
): CertificateManager {
  const { workloadApiSocket: socket, trustDomain, trustDomainAliases: aliases } = config
  const supply =
    socket === undefined
      ? signed(config, log, started)
      : new WorkloadApi({ socket, trust: { trustDomain, aliases } })
  const certificates = new CertificateManager({ supply, log })
  started.defer(() => certificates.close())
  return certificates
}

function signed(
  config: WaypointConfig,
  log: Logger,
  started: AsyncDisposableStack,
): CertificateSupply {
  const authority = new CaClient({
    address: config.caAddress,
    roots: config.caRootFile,
    tokenFile: config.tokenFile,
    clusterId: config.clusterId,
    // Its token says who it is, and it asks for nobody else.
    impersonate: false,
  })
  started.defer(() => authority.close())
  return new SignedCertificates({ authority, log, ttlSeconds: config.certificateTtlSeconds })
}
