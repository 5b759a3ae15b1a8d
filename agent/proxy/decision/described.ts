// SPDX-License-Identifier: Apache-2.0
// What an outbound decision says of its connection, for the record.

import type { SpiffeId } from '../../../mesh/model/types.ts'
import {
  type ConnectionAbout,
  type Party,
  partyOf,
} from '../../../mesh/telemetry/connection-record.ts'
import type { Decided } from '../connection.ts'
import { type LocalPod, podParty } from '../local-pod.ts'
import type { OutboundDecision } from './outbound.ts'

/** What the decision adds to the connection's record. */
export function described(
  decision: OutboundDecision,
  pod: LocalPod,
  about: ConnectionAbout,
): Decided {
  const { service, workload } = decision
  switch (decision.kind) {
    case 'deny':
      return {
        source: identified(about.source, undefined),
        destination: partyOf(workload),
        destinationAddress: about.destinationAddress,
        hboneTarget: undefined,
        service,
        security: 'unknown',
      }
    case 'passthrough':
      return {
        source: identified(about.source, undefined),
        destination: partyOf(workload),
        destinationAddress: decision.target,
        hboneTarget: undefined,
        service,
        security: 'unknown',
      }
    case 'sameNode':
      return {
        source: identified(about.source, pod.identity),
        destination: podParty(decision.pod, workload, decision.pod.identity),
        destinationAddress: decision.target,
        hboneTarget: undefined,
        service,
        security: 'node_local',
      }
    case 'hbone':
      return {
        source: identified(about.source, pod.identity),
        destination: partyOf(workload),
        destinationAddress: decision.peer,
        hboneTarget: decision.target,
        service,
        // Until the peer has proven itself.
        security: 'unknown',
      }
  }
}

/** The caller, known by its namespace; its identity is told only where it is proven to somebody. */
function identified(source: Party, identity: SpiffeId | undefined): Party {
  return source.identity === identity ? source : { ...source, identity }
}
