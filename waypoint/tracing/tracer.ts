// SPDX-License-Identifier: Apache-2.0
// Traces of requests. A traced request passes on a span of its own, in the form that its client wrote; what becomes of it is told as two
// spans when it is over (spans.ts). Who calls has decided whether it is traced; where nobody has, a share is. Hot: once a request.

import { type HeaderEdits, withFields } from '../../mesh/http/header-edits.ts'
import { headerName } from '../../mesh/http/header-names.ts'
import type { RequestHead } from '../../mesh/http/message.ts'
import {
  type HeaderLookup,
  type IncomingTrace,
  readTrace,
  TRACE_HEADERS,
  type TraceHeader,
  writeTrace,
} from '../../mesh/telemetry/trace-context.ts'
import { newSpanId, newTraceParent } from '../../mesh/telemetry/traceparent.ts'
import type { RouteOutcome } from '../exchange/types.ts'

/** The spans of one request that is told of. */
export interface Trace {
  readonly traceId: string
  /** The span that called; undefined: the trace begins here. */
  readonly parentId: string | undefined
  readonly state: string | undefined
  /** Of the caller's call, and of the endpoint's work in it, which is what the endpoint hears of. */
  readonly clientSpanId: string
  readonly serverSpanId: string
}

/** What the router said, and the trace that the request is part of. */
type TracedOutcome = RouteOutcome & { readonly trace: Trace }

/** The trace of a request that is over; undefined: it has none that is told. */
export function traceOf(outcome: RouteOutcome | undefined): Trace | undefined {
  return outcome !== undefined && isTraced(outcome) ? outcome.trace : undefined
}

function isTraced(outcome: RouteOutcome): outcome is TracedOutcome {
  return 'trace' in outcome
}

const NAMES = new Map(TRACE_HEADERS.map((name) => [name, headerName(name)]))
const DROPPED = [...NAMES.values()]

export class Tracer {
  readonly #share: number
  readonly #random: () => number

  /** @param share of the requests about which nobody has decided, from 0 to 1 */
  constructor(share: number, random: () => number = Math.random) {
    this.#share = share
    this.#random = random
  }

  /** Takes a request that was routed into its trace; the head is valid during the call. The outcome as it is where there is none. */
  traced(head: RequestHead, outcome: RouteOutcome): RouteOutcome {
    const incoming = readTrace(lookupIn(head))
    const isSampled = incoming.isSampled ?? this.#random() < this.#share
    // Its headers say so already.
    if (!isSampled && incoming.isSampled !== undefined) return outcome
    const trace = begin(incoming)
    const told = isSampled ? { ...outcome, trace } : outcome
    if (told.kind === 'answer') return told
    return { ...told, requestEdits: passedOn(told.requestEdits, trace, isSampled, incoming) }
  }
}

function begin({ traceId, parentId, state }: IncomingTrace): Trace {
  const fresh = newTraceParent()
  return {
    traceId: traceId ?? fresh.traceId,
    parentId,
    state,
    clientSpanId: newSpanId(),
    serverSpanId: fresh.parentId,
  }
}

/** Adds the headers of the span to what the route does; fields of a trace that the route writes itself stay as it wants them. */
function passedOn(
  edits: HeaderEdits | undefined,
  { traceId, serverSpanId, state }: Trace,
  isSampled: boolean,
  { forms }: IncomingTrace,
): HeaderEdits | undefined {
  if (edits !== undefined && touchesTrace(edits)) return edits
  const fields = writeTrace({ traceId, spanId: serverSpanId, isSampled }, forms)
  const kept = state === undefined ? [] : [['tracestate', state] as const]
  return withFields(
    edits,
    DROPPED,
    [...fields, ...kept].map(([name, value]) => ({ name, value })),
  )
}

function touchesTrace({ added, dropped }: HeaderEdits): boolean {
  return (
    added.some(({ name }) => NAMES.has(name as TraceHeader)) ||
    dropped.some(({ text }) => NAMES.has(text as TraceHeader))
  )
}

function lookupIn(head: RequestHead): HeaderLookup {
  // Several fields of one name are one list; a list is no trace, and so is nobody's.
  return (name) => head.joined(NAMES.get(name) ?? headerName(name))
}
