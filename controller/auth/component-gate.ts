// SPDX-License-Identifier: Apache-2.0
// Which component of the mesh calls the discovery server, by the same tokens as for certificates. What a component may
// read is not decided here (serve/visibility.ts), nor whose certificates it may have (ca/node-authorisation.ts).

import type { Metadata } from '@grpc/grpc-js'
import { type Result, err, ok } from '../../mesh/result.ts'
import type { XdsRefusal } from '../../mesh/xds/server.ts'
import { boundPod, type PodSource } from './bound-pod.ts'
import { GRPC_STATUS } from './call-gate.ts'
import { callerName, type Refusal } from './caller.ts'
import type { TokenAuthenticator } from './token-authenticator.ts'
import { type WaypointAccounts, waypointOf } from './waypoint-pods.ts'

/** A component that has proved itself. */
export type MeshComponent = Component &
  (
    | { readonly role: 'agent' }
    | {
        readonly role: 'waypoint'
        /** Whose pod it is: the name of a Gateway, and their namespace. */
        readonly gateway: string
        readonly namespace: string
      }
  )

/** What a component is to the mesh. */
export type ComponentRole = MeshComponent['role']

interface Component {
  /** `namespace/pod` */
  readonly name: string
  /** Where its pod runs, by the API server's word. */
  readonly node: string
}

/** Who is such a component. */
export interface ComponentDirectory {
  /** `namespace/service-account` */
  readonly agents: ReadonlySet<string>
  readonly waypoints: WaypointAccounts
}

/**
 * Makes the check for a discovery server: the caller's token is good and bound to a living pod of its account, and the account is
 * one of the agents', or the pod is a waypoint's. A token that is bound to no pod would be good wherever it was carried to, for as
 * long as it was issued for; a bound one ends with its pod.
 */
export function componentGate(
  authenticator: TokenAuthenticator,
  pods: PodSource,
  { agents, waypoints }: ComponentDirectory,
): (
  metadata: Metadata,
  signal: AbortSignal,
  peer: string,
) => Promise<Result<MeshComponent, XdsRefusal>> {
  return async (metadata, _signal, peer) => {
    const caller = await authenticator.authenticate(
      metadata.get('authorization')[0]?.toString(),
      peer,
    )
    if (!caller.ok) return refused(caller.error)
    const pod = await boundPod(pods, caller.value)
    if (!pod.ok) return refused(pod.error)
    const { name, node, template } = pod.value
    const { namespace } = template
    const component = { name: `${namespace}/${name}`, node }
    if (agents.has(callerName(caller.value))) return ok({ ...component, role: 'agent' })
    const gateway = waypointOf(pod.value, waypoints)
    if (!gateway.ok) return refused({ kind: 'denied', reason: gateway.error })
    return ok({ ...component, role: 'waypoint', namespace, gateway: gateway.value })
  }
}

function refused({ kind, reason }: Refusal): Result<never, XdsRefusal> {
  return err({ code: GRPC_STATUS[kind], message: reason })
}
