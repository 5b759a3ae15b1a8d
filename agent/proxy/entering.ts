// SPDX-License-Identifier: Apache-2.0
// The way of a call into a pod, whatever way it comes: it asks, waits in its place where policies of the pod are still on their way, and is
// filed under the rules in the turn in which they were asked. So no change of policy falls between the answer and the connection.

import type { CutSignal } from '../../mesh/async/cut.ts'
import { cutReason } from '../../mesh/relay/relay-result.ts'
import { END_REASONS, type EndReason } from '../../mesh/telemetry/end-reason.ts'
import { admit, type Door, type Gate, type InboundCall, type Permit } from './admission.ts'
import type { Connection } from './connection.ts'
import type { DecidedBy } from '../../mesh/telemetry/connection-record.ts'
import type { LocalPod } from './local-pod.ts'

export type Entry =
  | { readonly kind: 'permit'; readonly permit: Permit }
  | {
      readonly kind: 'refuse'
      readonly reason: EndReason
      readonly message: string
      readonly by: DecidedBy | undefined
    }

/** Lets the connection in, or says why not; whoever asks ends it then. `gone` tells that its caller has given up. */
export async function enter(
  connection: Connection,
  call: InboundCall,
  destination: LocalPod,
  door: Door,
  gate: Gate,
  gone?: CutSignal,
): Promise<Entry> {
  const admission = admit(call, destination, door, gate)
  connection.reported(gate.policies.reports(call, destination))
  if (admission.kind === 'refuse') return admission
  const { permit } = admission
  if (admission.kind === 'wait') {
    // The connection's from here on: it gives it back whatever its end, and is cut when the place is needed.
    connection.admitted(permit)
    const refusal = await decided(connection, call, destination, gate, admission.untilMs, gone)
    if (refusal !== undefined) return refusal
    connection.reported(gate.policies.reports(call, destination))
  }
  connection.admitted(permit, call)
  return { kind: 'permit', permit }
}

/** Asks again at each change; says why it is refused at last, if it is. */
async function decided(
  connection: Connection,
  call: InboundCall,
  destination: LocalPod,
  gate: Gate,
  untilMs: number,
  gone: CutSignal | undefined,
): Promise<Extract<Entry, { readonly kind: 'refuse' }> | undefined> {
  const { signal } = connection
  const ended = (): EndReason | undefined => {
    if (signal.aborted) return cutReason(signal)
    return gone?.aborted === true ? 'clientReset' : undefined
  }
  for (let wakeMs: number | undefined = untilMs; ; ) {
    await gate.policies.changed(
      destination.uid,
      wakeMs,
      gone === undefined ? [signal] : [signal, gone],
    )
    const end = ended()
    if (end !== undefined)
      return { kind: 'refuse', reason: end, message: END_REASONS[end].text, by: undefined }
    const refusal = gate.judge(call, destination)
    if (refusal?.pendingUntilMs === undefined) return refusal
    wakeMs = refusal.pendingUntilMs
  }
}
