// SPDX-License-Identifier: Apache-2.0
// Leads a call that has come past the waypoint of its pod to that waypoint, as the pod itself would call it: it comes back from there, for
// the client that it is of. So whoever does not know of the waypoint, or goes around it, is subject to it all the same.

import { formatOriginalClient } from '../../mesh/telemetry/original-client.ts'
import type { HboneFailure } from '../../mesh/hbone/types.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { GatewayAddress, WorkloadUid } from '../../mesh/model/types.ts'
import { isWorthRetrying } from '../../mesh/balance/endpoints-fault.ts'
import { workloadBaggage } from '../../mesh/telemetry/baggage.ts'
import { partyOf } from '../../mesh/telemetry/connection-record.ts'
import { formatForwarded } from '../../mesh/telemetry/forwarded.ts'
import { formatTraceParent, newTraceParent } from '../../mesh/telemetry/traceparent.ts'
import type { InboundCall, Permit } from './admission.ts'
import type { Carriage, Downstream, Way } from './carrier.ts'
import type { Connection } from './connection.ts'
import { chooseWaypoint, type ChosenWaypoint } from './decision/waypoint.ts'
import { callerAddress } from './local-pod.ts'
import { CarriedCall, type PodContext } from './pod-context.ts'
import { tryOne } from './try-one.ts'

/** As of the endpoints of a Service (outbound.ts). */
const MAX_ATTEMPTS = 3

/** A call that policy of the pod has let in. */
interface LedBack {
  readonly call: InboundCall
  readonly permit: Permit
  readonly gateway: GatewayAddress
}

/** Carries an admitted call to its end, by an endpoint of the waypoint that can be reached. */
export async function leadBack(
  context: PodContext,
  connection: Connection,
  downstream: Downstream,
  { call, permit, gateway }: LedBack,
): Promise<Carriage> {
  const { pod, mesh, experience } = context
  const exclude = new Set<WorkloadUid>()
  let failure: HboneFailure | undefined
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
    const chosen = chooseWaypoint(
      {
        mesh: mesh.state,
        source: pod,
        clientAddress: call.peer.address,
        requested: call.target.address,
        experience,
        random: Math.random,
        exclude,
      },
      gateway,
    )
    // Nothing else is left to try: what failed first says more than that.
    if ('fault' in chosen) {
      const message = `workload ${pod.workloadUid} is bound to ${chosen.fault}`
      failure ??= { reason: 'waypointUnavailable', message }
      break
    }
    const { about } = connection
    const { peer, workload, endpoint } = chosen
    const destination = { destination: partyOf(workload), destinationAddress: peer }
    connection.decided({ ...about, ...destination, hboneTarget: call.target })
    const tried = experience.begin(endpoint)
    const carried = new CarriedCall(downstream, connection, { attempt: tried })
    const carriage = await tryOne(tried, () =>
      context.carrier.carry(carried, wayOf(context, call, chosen), permit),
    )
    if (carriage.kind === 'carried') return carriage
    failure = carriage.failure
    if (connection.signal.aborted || !isWorthRetrying(failure)) break
    exclude.add(workload.uid)
  }
  return {
    kind: 'unopened',
    failure: failure ?? { reason: 'internal', message: 'no endpoint of the waypoint was tried' },
  }
}

/** From the pod to the waypoint, as a caller of this very address. */
function wayOf(
  { pod, mesh }: PodContext,
  { peer: client, peerIdentity, target }: InboundCall,
  { peer, expectedIdentities }: ChosenWaypoint,
): Way {
  const { address } = client
  const workload = mesh.state.findWorkload(address)
  return {
    kind: 'hbone',
    peer: {
      sourceIdentity: pod.identity,
      sourceIp: callerAddress(pod, peer),
      destination: peer,
      expectedIdentities,
    },
    authority: formatSocketAddress(target),
    headers: {
      ...(workload !== undefined && { baggage: workloadBaggage(workload) }),
      forwarded: formatForwarded({ for: client }),
      traceparent: formatTraceParent(newTraceParent()),
      originalClient: formatOriginalClient({ identity: peerIdentity, address }),
    },
    app: {},
  }
}
