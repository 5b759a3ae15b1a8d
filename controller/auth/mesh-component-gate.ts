// SPDX-License-Identifier: Apache-2.0
// Who may read the mesh over discovery: its own components, by the same tokens as for certificates.

import type { Metadata } from '@grpc/grpc-js'
import { type Result, err, ok } from '../../mesh/result.ts'
import { callerName } from './caller.ts'
import type { TokenAuthenticator } from './token-authenticator.ts'

/** Makes the check for a discovery server: the caller's token is good and its account is one of the mesh's. */
export function meshComponentGate(
  authenticator: TokenAuthenticator,
  accounts: ReadonlySet<string>,
): (
  metadata: Metadata,
  signal: AbortSignal,
  peer: string,
) => Promise<Result<{ readonly name: string }, { readonly message: string }>> {
  return async (metadata, _signal, peer) => {
    const caller = await authenticator.authenticate(
      metadata.get('authorization')[0]?.toString(),
      peer,
    )
    if (!caller.ok) return err({ message: caller.error.reason })
    const account = callerName(caller.value)
    if (!accounts.has(account))
      return err({ message: `${account} is no component of the mesh and may not read its state` })
    const { pod } = caller.value
    return ok({ name: pod === undefined ? account : `${caller.value.namespace}/${pod.name}` })
  }
}
