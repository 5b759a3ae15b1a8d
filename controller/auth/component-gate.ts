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

/** What a component is to the mesh. */
export type ComponentRole = 'agent'

/** A component that has proved itself. */
export interface MeshComponent {
  /** `namespace/pod` */
  readonly name: string
  readonly role: ComponentRole
  /** Where its pod runs, by the API server's word. */
  readonly node: string
}

/** `namespace/service-account` of those who are such a component. */
export type ComponentAccounts = Readonly<Record<ComponentRole, ReadonlySet<string>>>

const ROLES: readonly ComponentRole[] = ['agent']

/**
 * Makes the check for a discovery server: the caller's token is good, its account is one of the mesh's, and it is bound
 * to a living pod of that account. A token that is bound to none would be good wherever it was carried to, for as long as
 * it was issued for; a bound one ends with its pod.
 */
export function componentGate(
  authenticator: TokenAuthenticator,
  pods: PodSource,
  accounts: ComponentAccounts,
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
    const account = callerName(caller.value)
    const role = ROLES.find((each) => accounts[each].has(account))
    if (role === undefined)
      return refused({
        kind: 'denied',
        reason: `${account} is no component of the mesh and may not read its state`,
      })
    const pod = await boundPod(pods, caller.value)
    if (!pod.ok) return refused(pod.error)
    const { name, node, template } = pod.value
    return ok({ name: `${template.namespace}/${name}`, role, node })
  }
}

function refused({ kind, reason }: Refusal): Result<never, XdsRefusal> {
  return err({ code: GRPC_STATUS[kind], message: reason })
}
