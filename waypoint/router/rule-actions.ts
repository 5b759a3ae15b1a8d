// SPDX-License-Identifier: Apache-2.0
// What a rule does with its requests, made ready when routes come: who answers, who is asked, and what is changed on the way. What cannot
// be done as written is not done by halves: such a rule, or backend, answers with 500 and says why.

import { editedPairs, type HeaderEdits, headerEdits } from '../../mesh/http/header-edits.ts'
import type { Fields } from '../../mesh/http/message.ts'
import { formatSocketAddress, parseSocketAddress } from '../../mesh/model/address.ts'
import type {
  HttpBackend,
  HttpBackendTarget,
  HttpFilter,
  HttpRule,
} from '../../mesh/model/http-routes.ts'
import type { AnswerOutcome, Backend, ForwardSession } from '../exchange/types.ts'
import { changeHeaders } from '../filters/change-headers.ts'
import { answerHeaders, type CorsFilter, isPreflight, preflightHeaders } from '../filters/cors.ts'
import { isMirrored, type MirrorFilter } from '../filters/mirror.ts'
import { type RedirectFilter, redirectLocation } from '../filters/redirect.ts'
import { type RewriteFilter, rewritePath } from '../filters/rewrite.ts'
import { type OngoingSession, SessionFilter } from '../filters/session.ts'
import type { SessionToken } from '../filters/session-token.ts'
import { chooseByWeight } from './choose-by-weight.ts'
import { prefixOf } from './precedence.ts'
import type { RoutedAnswer, RoutedForward, RoutedRequest, RouteHit } from './types.ts'

/** A backend with its share; `way` is what most of its requests are told, word for word. */
interface ReadyBackend {
  readonly weight: number
  readonly way: RoutedForward | RoutedAnswer
  readonly responseFilters: readonly HttpFilter[]
  readonly mirrors: readonly MirrorFilter[]
}

/** A request with what the client called the host. */
export interface AskedRequest extends RoutedRequest {
  readonly authority: string
}

export class RuleActions {
  readonly #rule: HttpRule
  readonly #backends: readonly ReadyBackend[]
  readonly #cors: CorsFilter | undefined
  readonly #redirect: RedirectFilter | undefined
  readonly #rewrite: RewriteFilter | undefined
  /** Of answers that are given here. */
  readonly #ownEdits: HeaderEdits | undefined
  readonly #session: SessionFilter | undefined
  readonly #fault: string | undefined

  constructor(rule: HttpRule) {
    this.#rule = rule
    const { filters } = rule
    this.#cors = filters.find((filter) => filter.kind === 'cors')
    this.#redirect = filters.find((filter) => filter.kind === 'redirect')
    this.#rewrite = filters.find((filter) => filter.kind === 'rewrite')
    this.#backends = rule.backends.map((backend) => makeReady(rule, backend))
    this.#session = rule.session && new SessionFilter(rule.session)
    const edits = changeHeaders(filters, 'responseHeaders')
    this.#ownEdits = edits.ok ? edits.value : undefined
    this.#fault = rule.fault ?? (edits.ok ? undefined : edits.error)
  }

  /** Hot: once a request. */
  follow(
    hit: RouteHit,
    request: AskedRequest,
    fields: Fields,
    random: () => number,
  ): RoutedForward | RoutedAnswer {
    if (this.#fault !== undefined) return refusal(this.#rule, this.#fault)
    if (this.#cors !== undefined && isPreflight(request.method, fields))
      return this.#answer(200, preflightHeaders(this.#cors, fields))
    const matched = hit.match.path.kind === 'prefix' ? prefixOf(hit.match.path.value) : undefined
    if (this.#redirect !== undefined)
      return this.#sendElsewhere(this.#redirect, request, fields, matched)
    const session = this.#session?.of(fields)
    const chosen = this.#backendOf(session?.token) ?? chooseByWeight(this.#backends, random)
    if (chosen === undefined)
      return this.#withOwn(refusal(this.#rule, 'no backend has any weight'), fields)
    const { way } = chosen
    // A browser must be able to read what went wrong, too.
    if (way.kind === 'answer') return this.#withOwn(way, fields)
    const adapted = this.#adapt(chosen, way, request, fields, matched, random)
    return session === undefined || adapted.kind === 'answer'
      ? adapted
      : { ...adapted, session: forwardSession(session, adapted) }
  }

  /** The backend that a session is at; one without a weight is to have no more requests. */
  #backendOf(token: SessionToken | undefined): ReadyBackend | undefined {
    if (token === undefined) return undefined
    return this.#backends.find(
      ({ weight, way }) => weight > 0 && way.kind === 'forward' && isAt(token, way.backend),
    )
  }

  /** What the request at hand changes of its backend's way. */
  #adapt(
    { responseFilters, mirrors: wanted }: ReadyBackend,
    way: RoutedForward,
    request: AskedRequest,
    fields: Fields,
    matched: string | undefined,
    random: () => number,
  ): RoutedForward | RoutedAnswer {
    let adapted = way
    if (this.#rewrite?.path !== undefined) {
      if (matched === undefined && this.#rewrite.path.kind === 'prefix')
        return refusal(this.#rule, NO_PREFIX)
      const path = rewritePath(this.#rewrite, request.path, matched ?? '')
      adapted = { ...adapted, target: request.query === '' ? path : `${path}?${request.query}` }
    }
    const allowed = this.#allowed(fields)
    if (allowed.length > 0)
      adapted = { ...adapted, responseEdits: withAllowance(responseFilters, allowed) }
    if (wanted.length === 0) return adapted
    const mirrors = wanted
      .filter((mirror) => isMirrored(mirror, random))
      .flatMap(({ backend }) => backendOf(backend) ?? [])
    return mirrors.length === 0 ? adapted : { ...adapted, mirrors }
  }

  #sendElsewhere(
    filter: RedirectFilter,
    request: AskedRequest,
    fields: Fields,
    matched: string | undefined,
  ): RoutedAnswer {
    if (matched === undefined && filter.path?.kind === 'prefix')
      return refusal(this.#rule, NO_PREFIX)
    const { authority, path, query } = request
    const location = redirectLocation(filter, { authority, path, query, matched: matched ?? '' })
    const headers = [['location', location], ...this.#allowed(fields)] as const
    return this.#answer(filter.status, headers)
  }

  #answer(status: number, headers: AnswerOutcome['headers']): RoutedAnswer {
    return {
      kind: 'answer',
      status,
      headers: editedPairs(headers, this.#ownEdits),
      body: '',
      flag: '-',
      route: this.#rule.route,
      message: undefined,
    }
  }

  /** An answer of ours in the place of a backend's, with what the rule adds to those. */
  #withOwn(answer: RoutedAnswer, fields: Fields): RoutedAnswer {
    return { ...answer, headers: editedPairs(this.#allowed(fields), this.#ownEdits) }
  }

  /** What lets a page of another origin read the answer. */
  #allowed(fields: Fields): AnswerOutcome['headers'] {
    return this.#cors === undefined ? NO_HEADERS : answerHeaders(this.#cors, fields)
  }
}

const NO_HEADERS: AnswerOutcome['headers'] = []
const NO_PREFIX = 'a prefix is to be replaced, and the path was not matched by one'

function isAt(token: SessionToken, backend: Backend): boolean {
  return (
    backend.kind === 'service' && backend.service === token.service && backend.port === token.port
  )
}

function forwardSession(
  session: OngoingSession,
  { backend, responseEdits }: RoutedForward,
): ForwardSession | undefined {
  if (backend.kind !== 'service') return undefined
  const { token } = session
  return {
    endpoint:
      token !== undefined && isAt(token, backend) ? parseSocketAddress(token.endpoint) : undefined,
    editsFor: (endpoint) => session.editsFor(backend, formatSocketAddress(endpoint), responseEdits),
  }
}

/**
 * The answer for requests whose rule, or backend, cannot be followed. GRPCRouteRule.backendRefs asks for UNAVAILABLE, which a 500 would not
 * be to a client of gRPC.
 */
function refusal({ route }: Pick<HttpRule, 'route'>, message: string): RoutedAnswer {
  const status = route.kind === 'GRPCRoute' ? 503 : 500
  return { kind: 'answer', status, headers: [], body: '', flag: 'NR', route, message }
}

function backendOf(target: HttpBackendTarget): Backend | undefined {
  return target.kind === 'service' ? target : undefined
}

/** What a backend may do of its own. */
const OF_BACKENDS: ReadonlySet<HttpFilter['kind']> = new Set([
  'requestHeaders',
  'responseHeaders',
  'mirror',
])

function makeReady(rule: HttpRule, { target, weight, filters }: HttpBackend): ReadyBackend {
  const refused = (why: string): ReadyBackend => ({
    weight,
    way: refusal(rule, why),
    responseFilters: [],
    mirrors: [],
  })
  if (target.kind === 'unresolved') return refused(target.reason)
  const odd = filters.find(({ kind }) => !OF_BACKENDS.has(kind))
  if (odd !== undefined) return refused(`a backend has no filter of the kind ${odd.kind}`)
  const all = [...rule.filters, ...filters]
  const request = changeHeaders(all, 'requestHeaders')
  if (!request.ok) return refused(request.error)
  const response = changeHeaders(all, 'responseHeaders')
  if (!response.ok) return refused(response.error)
  const rewrite = rule.filters.find((filter) => filter.kind === 'rewrite')
  return {
    weight,
    responseFilters: all,
    mirrors: all.filter((filter) => filter.kind === 'mirror'),
    way: {
      kind: 'forward',
      backend: target,
      target: undefined,
      authority: rewrite?.hostname,
      requestEdits: request.value,
      responseEdits: response.value,
      requestMs: rule.timeouts.requestMs,
      backendRequestMs: rule.timeouts.backendRequestMs,
      retry: rule.retry,
      route: rule.route,
      mirrors: [],
      session: undefined,
    },
  }
}

/**
 * What a rule and backend change of answers, with the fields that allow an origin; these replace the app's own. So does their absence: the
 * filter says whether credentials may be sent, and not the app.
 */
function withAllowance(
  filters: readonly HttpFilter[],
  allowed: readonly (readonly [name: string, value: string])[],
): HeaderEdits {
  const changes = filters.flatMap((filter) =>
    filter.kind === 'responseHeaders' ? [filter.edit] : [],
  )
  const named = allowed.map(([name, value]) => ({ name, value }))
  return headerEdits(
    {
      remove: ['access-control-allow-credentials'],
      set: named.filter(({ name }) => name !== 'vary'),
      // The app's own answers may vary by more.
      add: named.filter(({ name }) => name === 'vary'),
    },
    ...changes,
  )
}
