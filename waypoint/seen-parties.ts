// SPDX-License-Identifier: Apache-2.0
// What the ends of a request have proven, for whoever tells of it. Pure.

import { workloadIdentity } from '../mesh/identity/workload-identity.ts'
import type { SpiffeId, Workload } from '../mesh/model/types.ts'
import type { ConnectionSecurity } from '../mesh/telemetry/connection-record.ts'
import type { RequestSource } from './exchange/types.ts'

/** Who an endpoint is that was reached: by HBONE it has proven it, and nobody outside the mesh proves anything. */
export function provenIdentity(endpoint: Workload): SpiffeId | undefined {
  return endpoint.tunnelProtocol === 'hbone' ? workloadIdentity(endpoint) : undefined
}

/** Clients come by mutual TLS, but for one that called a pod in plaintext and was led here by the pod's agent. */
export function securityOf({ identity }: Pick<RequestSource, 'identity'>): ConnectionSecurity {
  return identity === undefined ? 'unknown' : 'mutual_tls'
}
