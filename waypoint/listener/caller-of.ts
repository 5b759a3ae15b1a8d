// SPDX-License-Identifier: Apache-2.0
// Who calls by a tunnel: whoever its TLS proves, from where it came. A pod's agent leads back here what had come past the waypoint, as the
// pod itself, and says whose call it is: that is believed of the pod that is called, which could say it to its app as well, and of nobody
// else. Pure.

import { parseOriginalClient } from '../../mesh/telemetry/original-client.ts'
import type { IncomingTunnel } from '../../mesh/hbone/types.ts'
import type { TrustPolicy } from '../../mesh/identity/trust-policy.ts'
import { provenWorkload } from '../../mesh/identity/workload-identity.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { IpAddress, SpiffeId, Workload } from '../../mesh/model/types.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { parseForwarded } from '../../mesh/telemetry/forwarded.ts'
import type { CallSource } from './call.ts'

export interface CallerWorld {
  readonly mesh: MeshState
  readonly trust: Pick<TrustPolicy, 'isSame'>
}

/** What it says of itself in the tunnel. */
type Arrived = Pick<IncomingTunnel, 'peer' | 'peerIdentity' | 'headers'>

/** The caller; or why it is not known, though it should be. `called`: the workload that was called by its own address. */
export function callerOf(
  world: CallerWorld,
  { peer, peerIdentity, headers }: Arrived,
  called: Workload | undefined,
): Result<CallSource, string> {
  const own = provenAt(world, peer.address, peerIdentity)
  const { originalClient, forwarded } = headers
  if (originalClient === undefined || called === undefined || own?.uid !== called.uid)
    return ok({ address: peer, identity: peerIdentity, workload: own })
  const client = parseOriginalClient(originalClient)
  if (client === undefined)
    return err('the pod that is called does not say for whom it leads the call back')
  const { identity, address } = client
  const said = forwarded === undefined ? undefined : parseForwarded(forwarded).for
  const port = said?.address === address ? said.port : 0
  return ok({ address: { address, port }, identity, workload: provenAt(world, address, identity) })
}

function provenAt(
  { mesh, trust }: CallerWorld,
  address: IpAddress,
  identity: SpiffeId | undefined,
): Workload | undefined {
  return identity === undefined ? undefined : provenWorkload(mesh, address, identity, trust)
}
