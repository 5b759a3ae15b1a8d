// SPDX-License-Identifier: Apache-2.0
// The trace that a request belongs to, as its headers say: W3C Trace Context and B3 (Zipkin), single header or several. What they say is a
// client's word: read strictly, and what is not well-formed is nobody's. Pure.

/** Where the headers are looked up, by names in lower case. */
export type HeaderLookup = (name: TraceHeader) => string | undefined

export const TRACE_HEADERS = [
  'traceparent',
  'tracestate',
  'b3',
  'x-b3-traceid',
  'x-b3-spanid',
  'x-b3-parentspanid',
  'x-b3-sampled',
  'x-b3-flags',
] as const
export type TraceHeader = (typeof TRACE_HEADERS)[number]

/** How a client writes it, and so how it is written on. */
export type TraceForm = 'w3c' | 'b3' | 'b3Headers'

export interface IncomingTrace {
  /** 32 lower-case hexadecimal digits; undefined: there is a decision only. */
  readonly traceId: string | undefined
  /** 16 of them: the span that called. */
  readonly parentId: string | undefined
  /** Undefined: whoever comes first decides. */
  readonly isSampled: boolean | undefined
  /** W3C's tracestate, which is passed on as it is. */
  readonly state: string | undefined
  /** All forms that came, the one that counts first. */
  readonly forms: readonly TraceForm[]
}

/** The span that is passed on. */
export interface OutgoingTrace {
  readonly traceId: string
  readonly spanId: string
  readonly isSampled: boolean
}

const NOTHING: IncomingTrace = {
  traceId: undefined,
  parentId: undefined,
  isSampled: undefined,
  state: undefined,
  forms: [],
}

// W3C Trace Context 3.2: version ff is forbidden, ids of zeros only are invalid, later versions may say more after the flags.
const TRACEPARENT =
  /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
const B3_SINGLE =
  /^(?!0+-)([0-9a-f]{32}|[0-9a-f]{16})-(?!0{16})([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?$/i
const TRACE_ID = /^(?!0+$)(?:[0-9a-f]{32}|[0-9a-f]{16})$/i
const SPAN_ID = /^(?!0+$)[0-9a-f]{16}$/i
const SAMPLED_FLAG = 1
/** W3C Trace Context 3.3.1.5 asks for 512 characters at least. */
const LONGEST_STATE = 8_192

/** Reads what came; W3C counts before B3, and one header of B3 before several. */
export function readTrace(header: HeaderLookup): IncomingTrace {
  const found = [readW3c(header), readB3(header), readB3Headers(header)].filter(
    (each) => each !== undefined,
  )
  const [first] = found
  if (first === undefined) return NOTHING
  return found.length === 1 ? first : { ...first, forms: found.flatMap(({ forms }) => forms) }
}

function readW3c(header: HeaderLookup): IncomingTrace | undefined {
  const text = header('traceparent')
  if (text === undefined) return undefined
  const [, version, traceId, parentId, flags = '', more] = TRACEPARENT.exec(text) ?? []
  if (traceId === undefined || (version === '00' && more !== undefined)) return undefined
  const state = header('tracestate')
  return {
    traceId,
    parentId,
    isSampled: (Number.parseInt(flags, 16) & SAMPLED_FLAG) === SAMPLED_FLAG,
    state: state !== undefined && state.length <= LONGEST_STATE ? state : undefined,
    forms: ['w3c'],
  }
}

function readB3(header: HeaderLookup): IncomingTrace | undefined {
  const text = header('b3')
  if (text === undefined) return undefined
  if (text === '0' || text === '1' || text === 'd')
    return { ...NOTHING, isSampled: text !== '0', forms: ['b3'] }
  const [, traceId, parentId, decision] = B3_SINGLE.exec(text) ?? []
  return traceId === undefined
    ? undefined
    : b3(traceId, parentId, decision === undefined ? undefined : decision !== '0', 'b3')
}

function readB3Headers(header: HeaderLookup): IncomingTrace | undefined {
  const traceId = header('x-b3-traceid') ?? ''
  const parentId = header('x-b3-spanid') ?? ''
  const isSampled = sampledByHeaders(header('x-b3-sampled'), header('x-b3-flags'))
  if (TRACE_ID.test(traceId) && SPAN_ID.test(parentId))
    return b3(traceId, parentId, isSampled, 'b3Headers')
  return isSampled === undefined ? undefined : { ...NOTHING, isSampled, forms: ['b3Headers'] }
}

function sampledByHeaders(
  sampled: string | undefined,
  flags: string | undefined,
): boolean | undefined {
  if (flags === '1' || sampled === '1' || sampled === 'true') return true
  return sampled === '0' || sampled === 'false' ? false : undefined
}

function b3(
  traceId: string,
  parentId: string | undefined,
  isSampled: boolean | undefined,
  form: TraceForm,
): IncomingTrace {
  return {
    traceId: traceId.toLowerCase().padStart(32, '0'),
    parentId: parentId?.toLowerCase(),
    isSampled,
    state: undefined,
    forms: [form],
  }
}

/** The headers that pass a span on in these forms; W3C's where none came. */
export function writeTrace(
  { traceId, spanId, isSampled }: OutgoingTrace,
  forms: readonly TraceForm[],
): readonly (readonly [name: TraceHeader, value: string])[] {
  const flag = isSampled ? '1' : '0'
  const headers: (readonly [TraceHeader, string])[] = []
  for (const form of forms.length === 0 ? (['w3c'] as const) : forms)
    if (form === 'w3c') headers.push(['traceparent', `00-${traceId}-${spanId}-0${flag}`])
    else if (form === 'b3') headers.push(['b3', `${traceId}-${spanId}-${flag}`])
    else headers.push(['x-b3-traceid', traceId], ['x-b3-spanid', spanId], ['x-b3-sampled', flag])
  return headers
}
