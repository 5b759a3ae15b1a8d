// SPDX-License-Identifier: Apache-2.0
// Stands before every gRPC method: who has no good token is answered before a byte of the request's message is read, so that
// strangers can make us hold nothing, and those who only have a token of their own, as every pod may, little at a time. What
// the caller may do is for the method to decide.

import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  ServerListenerBuilder,
  ResponderBuilder,
  status,
} from '@grpc/grpc-js'
import { PerSource } from '../../mesh/async/per-source.ts'
import { errorMessage } from '../../mesh/errors.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import { type Caller, callerName, type Refusal } from './caller.ts'
import type { TokenAuthenticator } from './token-authenticator.ts'

export interface CallGateOptions {
  readonly authenticator: TokenAuthenticator
  readonly log: Logger
  /** `namespace/service-account` of the mesh's own components, whose requests may be large and whose calls may last. */
  readonly components: ReadonlySet<string>
  /** Told of each call that may pass, before it does: the peer as address:port, and an account to charge it to. */
  readonly onAuthenticated: (peer: string, account: string) => void
  /** Told of each call that may not. */
  readonly onRefused: (kind: Refusal['kind']) => void
  /** For tests. */
  readonly ordinaryCallDeadlineMs?: number
}

/** Lines about callers nobody vouched for: any pod can cause them. */
const STRANGERS_LINES = { burst: 100, perSecond: 10 }

/**
 * Calls under way of callers that are no components. What they ask for, a certificate of their own, is 2 KB and milliseconds; but
 * gRPC reads a whole message, of up to 16 MiB, before its method sees it.
 */
const ORDINARY_CALLS = { perSource: 2, total: 32 }
/** What an ordinary call may take: so long one that trickles in can hold its place. */
const ORDINARY_CALL_DEADLINE_MS = 10_000

/** One gRPC status for each kind of refusal. */
export const GRPC_STATUS = {
  unauthenticated: status.UNAUTHENTICATED,
  denied: status.PERMISSION_DENIED,
  invalid: status.INVALID_ARGUMENT,
  throttled: status.RESOURCE_EXHAUSTED,
  unavailable: status.UNAVAILABLE,
} as const satisfies Readonly<Record<Refusal['kind'], status>>

/** Makes the gate; give it to the gRPC server as its first interceptor. */
export function callGate(options: CallGateOptions): ServerInterceptor {
  const strangers = new LogBudget(STRANGERS_LINES)
  const ordinary = new PerSource(ORDINARY_CALLS)
  const refuse = (
    call: ServerInterceptingCallInterface,
    method: string,
    { kind, reason }: Refusal,
  ): void => {
    options.onRefused(kind)
    const keptBack = strangers.take()
    if (keptBack !== undefined)
      options.log.warn({ peer: call.getPeer(), method, kind, reason, keptBack }, 'caller refused')
    call.sendStatus({ code: GRPC_STATUS[kind], details: reason })
  }
  const judge = async (
    call: ServerInterceptingCallInterface,
    method: string,
    metadata: Metadata,
    pass: (metadata: Metadata) => void,
    ending: Ending,
  ): Promise<void> => {
    const peer = call.getPeer()
    const caller = await options.authenticator.authenticate(
      metadata.get('authorization')[0]?.toString(),
      peer,
    )
    if (!caller.ok) return refuse(call, method, caller.error)
    const account = accountOf(caller.value)
    options.onAuthenticated(peer, account)
    if (ending.isOver) return
    if (!options.components.has(callerName(caller.value))) {
      if (!ordinary.enter(account))
        return refuse(call, method, { kind: 'throttled', reason: 'too many calls at once' })
      const deadline = setTimeout(
        () =>
          call.sendStatus({ code: status.DEADLINE_EXCEEDED, details: 'the call took too long' }),
        options.ordinaryCallDeadlineMs ?? ORDINARY_CALL_DEADLINE_MS,
      )
      ending.onEnd = () => {
        clearTimeout(deadline)
        ordinary.leave(account)
      }
    }
    pass(metadata)
  }
  return ({ path }, call) => {
    const ending: Ending = { isOver: false, onEnd: undefined }
    return new ServerInterceptingCall(
      call,
      new ResponderBuilder()
        .withStart((start) =>
          start(
            new ServerListenerBuilder()
              .withOnReceiveMetadata((metadata, pass) => {
                judge(call, path, metadata, pass, ending).catch((thrown: unknown) => {
                  // A fault in the check is no permission.
                  options.log.error({ error: errorMessage(thrown) }, 'cannot check a caller')
                  call.sendStatus({ code: status.INTERNAL, details: 'internal error' })
                })
              })
              // Told at every end of a call, not only of one that its caller gave up.
              .withOnCancel(() => {
                if (ending.isOver) return
                ending.isOver = true
                ending.onEnd?.()
              })
              .build(),
          ),
        )
        .build(),
    )
  }
}

/** What is to be done when a call is over. */
interface Ending {
  isOver: boolean
  onEnd: (() => void) | undefined
}

/** Whose a connection is: the pod's that the token is bound to, for many pods may share an account. */
function accountOf(caller: Caller): string {
  return caller.pod?.uid ?? callerName(caller)
}
