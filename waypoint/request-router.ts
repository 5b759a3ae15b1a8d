// SPDX-License-Identifier: Apache-2.0
// What becomes of a request: policies let it through, or do not; then the routes of the called port are asked, as they are at this moment, and the rule that takes it is followed.
// A port without routes sends its requests where they were sent.

import type { Fields, RequestHead } from '../mesh/http/message.ts'
import type { HttpRoutes, HttpRule } from '../mesh/model/http-routes.ts'
import type { JudgedRequest } from '../mesh/policy/request/types.ts'
import type { MeshState } from '../mesh/model/mesh-state.ts'
import type {
  AnswerOutcome,
  Backend,
  ForwardOutcome,
  RequestSource,
  RouteOutcome,
} from './exchange/types.ts'
import { answerAtLastHop, hopsLeft, oneHopLess } from './max-forwards.ts'
import { normalisePath } from './router/normalise-path.ts'
import { PatternMemory } from './router/pattern-memory.ts'
import { RouteTable } from './router/route-table.ts'
import { type AskedRequest, RuleActions } from './router/rule-actions.ts'
import type { RoutedRequest, RouteHit } from './router/types.ts'

/** What a request belongs to. */
interface Routed {
  /** Where it goes that no route leads elsewhere. */
  readonly backend: Backend
  /** Whose it is: some routes are for the clients of one namespace. */
  readonly source: Pick<RequestSource, 'identity'>
}

export interface RequestRouterOptions<C extends Routed> {
  readonly mesh: Pick<MeshState, 'httpRoutes'>
  /** Told once of each table with what could not be compiled of it: no request falls under that. */
  readonly onProblems: (service: string, problems: readonly string[]) => void
  /** The answer of a request that is not let through, by the path that is routed and sent on. */
  readonly judge: (call: C, request: JudgedRequest) => AnswerOutcome | undefined
  readonly random?: () => number
}

const NO_ROUTE = answer(404, 'NR', '')
const BAD_PATH = answer(400, 'DPE', 'the path has an escaped NUL')

export class RequestRouter<C extends Routed> {
  readonly #options: RequestRouterOptions<C>
  readonly #random: () => number
  readonly #memory = new PatternMemory()
  // Made at the first request. A change of routes is another object, so nothing here grows old.
  readonly #tables = new WeakMap<HttpRoutes, RouteTable>()
  readonly #actions = new WeakMap<HttpRule, RuleActions>()

  constructor(options: RequestRouterOptions<C>) {
    this.#options = options
    this.#random = options.random ?? Math.random
  }

  /** Judges and routes one request; the head is valid during the call. Hot: once a request. */
  route(call: C, head: RequestHead): RouteOutcome {
    const request = askedRequest(head)
    if (request === undefined) return BAD_PATH
    const denied = this.#options.judge(call, request)
    if (denied !== undefined) return denied
    const hops = hopsLeft(head)
    if (hops === 0) return answerAtLastHop(head)
    const routes = this.routesFor(call)
    const led = routes === undefined ? unrouted(call.backend) : this.#ask(routes, request, head)
    if (led.kind === 'answer') return led
    const outcome = hops === undefined ? led : oneHopLess(led, hops)
    if (outcome.target !== undefined) return outcome
    // What was judged is what goes on, routed or not: an app must not see another path.
    const { target } = head
    const question = target.indexOf('?')
    const judged = question < 0 ? request.path : request.path + target.slice(question)
    return judged === target ? outcome : { ...outcome, target: judged }
  }

  /** The routes that count for a call; undefined: there are none, and its requests go where they were sent. */
  routesFor({ backend, source }: Routed): HttpRoutes | undefined {
    return backend.kind === 'service'
      ? this.#options.mesh.httpRoutes.find(backend.service, backend.port, source.identity)
      : undefined
  }

  /** The rule of these routes that a request falls under; undefined: none. */
  match(routes: HttpRoutes, request: RoutedRequest, fields: Fields): RouteHit | undefined {
    return this.#tableOf(routes).match(request, fields)
  }

  #ask(routes: HttpRoutes, request: AskedRequest, head: RequestHead): RouteOutcome {
    const hit = this.match(routes, request, head)
    if (hit === undefined) return NO_ROUTE
    return this.#actionsOf(hit.rule).follow(hit, request, head, this.#random)
  }

  #tableOf(routes: HttpRoutes): RouteTable {
    let table = this.#tables.get(routes)
    if (table === undefined) {
      table = new RouteTable(routes.rules, this.#memory)
      this.#tables.set(routes, table)
      if (table.problems.length > 0) this.#options.onProblems(routes.service, table.problems)
    }
    return table
  }

  #actionsOf(rule: HttpRule): RuleActions {
    let actions = this.#actions.get(rule)
    if (actions === undefined) {
      actions = new RuleActions(rule)
      this.#actions.set(rule, actions)
    }
    return actions
  }
}

/** A request as it is judged and routed; undefined: its path is none. Hot: once a request. */
export function askedRequest(head: RequestHead): (AskedRequest & JudgedRequest) | undefined {
  const { method, target, authority } = head
  const question = target.indexOf('?')
  const path = normalisePath(question < 0 ? target : target.slice(0, question))
  if (path === undefined) return undefined
  const query = question < 0 ? '' : target.slice(question + 1)
  return { method, path, query, authority, headers: head }
}

/** As a request goes for which there is no route. */
function unrouted(backend: Backend): ForwardOutcome {
  return {
    kind: 'forward',
    backend,
    target: undefined,
    authority: undefined,
    requestEdits: undefined,
    responseEdits: undefined,
    requestMs: 0,
    backendRequestMs: 0,
    retry: undefined,
    mirrors: [],
    session: undefined,
  }
}

function answer(status: number, flag: AnswerOutcome['flag'], body: string): AnswerOutcome {
  return { kind: 'answer', status, headers: [], body, flag }
}
