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
  readonly authenticator: Pick<TokenAuthenticator, 'authenticate'>
  readonly log: Logger
  /** How a caller stands to the mesh, without asking anybody. */
  readonly standingOf: (caller: Caller) => Standing
  /** Told of each call, before anything is done for it, and of its peer as address:port; false: that was one too many, and nobody is to be answered. */
  readonly onCall: (peer: string) => boolean
  /** Told of each call that may pass, before it does, with an account to charge it to; false as by onCall. */
  readonly onAuthenticated: (peer: string, account: string) => boolean
  /** Told of each call that may not. */
  readonly onRefused: (kind: Refusal['kind']) => void
  /** For tests. */
  readonly ordinaryCallDeadlineMs?: number
}

/**
 * `agent`: requests may be large, and calls may last; who has taken a node over can be one, and has a bound of its own. `waypoint`: whoever may write a namespace's objects can be one:
 * its calls may last, and are counted. `ordinary`: any pod.
 */
export type Standing = 'agent' | 'waypoint' | 'ordinary'

/** Lines about callers nobody vouched for: any pod can cause them. */
const STRANGERS_LINES = { burst: 100, perSecond: 10 }

/**
 * Calls under way of callers that are no components. What they ask for, a certificate of their own, is 2 KB and milliseconds; but
 * gRPC reads a whole message, of up to 16 MiB, before its method sees it.
 */
const ORDINARY_CALLS = { perSource: 2, total: 32 }
/** An agent has one stream, for a moment two, and asks for eight certificates at once. What each sends may be 16 MiB. */
const AGENT_CALLS = { perSource: 32, total: Number.POSITIVE_INFINITY }
/** A waypoint has one stream, for a moment two while it changes over, and asks for a certificate now and then. */
const WAYPOINT_CALLS = { perSource: 4, total: 4_000 }
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
  const calls = {
    agent: new PerSource(AGENT_CALLS),
    waypoint: new PerSource(WAYPOINT_CALLS),
    ordinary: new PerSource(ORDINARY_CALLS),
  }
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
    if (!options.onCall(peer)) return
    const caller = await options.authenticator.authenticate(
      metadata.get('authorization')[0]?.toString(),
      peer,
    )
    if (!caller.ok) return refuse(call, method, caller.error)
    const account = accountOf(caller.value)
    if (!options.onAuthenticated(peer, account) || ending.isOver) return
    const standing = options.standingOf(caller.value)
    const counted = calls[standing]
    if (!counted.enter(account))
      return refuse(call, method, { kind: 'throttled', reason: 'too many calls at once' })
    const deadline = standing === 'ordinary' ? startDeadline(call, options) : undefined
    ending.onEnd = () => {
      clearTimeout(deadline)
      counted.leave(account)
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

function startDeadline(
  call: ServerInterceptingCallInterface,
  { ordinaryCallDeadlineMs = ORDINARY_CALL_DEADLINE_MS }: CallGateOptions,
): NodeJS.Timeout {
  return setTimeout(
    () => call.sendStatus({ code: status.DEADLINE_EXCEEDED, details: 'the call took too long' }),
    ordinaryCallDeadlineMs,
  )
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
