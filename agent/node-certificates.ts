// SPDX-License-Identifier: Apache-2.0
// The certificates of this node's pods: signed by the mesh's authority, or SPIRE's.

import type { ServiceRoute } from '../mesh/grpc/service-route.ts'
import { CaClient } from '../mesh/identity/ca-client.ts'
import { CertificateManager } from '../mesh/identity/certificate-manager.ts'
import type { RootSource } from '../mesh/identity/root-source.ts'
import { SignedCertificates } from '../mesh/identity/signed-certificates.ts'
import { DelegatedIdentities } from '../mesh/identity/spire/delegated-identities.ts'
import type { CertificateSupply } from '../mesh/identity/types.ts'
import type { IdentifiedPod } from './handover/index.ts'
import type { Starting } from './starting.ts'

export interface NodeCertificatesParts {
  readonly route: Pick<ServiceRoute, 'dial'>
  /** The roots of the control plane. */
  readonly roots: RootSource
  /** The pods that are served, or are about to be. */
  readonly pods: () => readonly IdentifiedPod[]
}

/** Starts none; let go of with the agent. */
export function nodeCertificates(
  starting: Starting,
  parts: NodeCertificatesParts,
): CertificateManager {
  const { config, log, started } = starting
  const certificates = new CertificateManager({
    supply:
      config.spireAdminSocket === undefined
        ? signed(starting, parts)
        : delegated(starting, config.spireAdminSocket, parts),
    log: log.child({ part: 'identity' }),
  })
  started.defer(() => certificates.close())
  return certificates
}

function signed(
  { config, log, started }: Starting,
  { roots, route }: NodeCertificatesParts,
): CertificateSupply {
  const authority = new CaClient({
    address: config.caAddress,
    route,
    roots,
    tokenFile: config.tokenFile,
    clusterId: config.clusterId,
  })
  started.defer(() => authority.close())
  return new SignedCertificates({
    authority,
    log: log.child({ part: 'identity' }),
    ttlSeconds: config.certificateTtlSeconds,
  })
}

function delegated(
  { config, log }: Starting,
  socket: string,
  { pods }: NodeCertificatesParts,
): CertificateSupply {
  return new DelegatedIdentities({
    socket,
    trust: { trustDomain: config.trustDomain, aliases: config.trustDomainAliases },
    podsOf: (identity) => {
      const own = pods().filter((pod) => pod.identity === identity)
      return [...new Set(own.map(({ uid }) => uid))]
    },
    log: log.child({ part: 'identity' }),
  })
}
