// SPDX-License-Identifier: Apache-2.0
// What a waypoint would do with one request, and why: the functions that serve requests, asked over a state that was copied, with nothing
// recorded and nothing sent. For `ambit why`.

import type { RequestHead } from '../mesh/http/message.ts'
import { formatSocketAddress } from '../mesh/model/address.ts'
import type { ConnectionRule, HttpRoutes } from '../mesh/model/http-routes.ts'
import type { MeshState } from '../mesh/model/mesh-state.ts'
import type { SocketAddress, WorkloadUid } from '../mesh/model/types.ts'
import type { ExplainedRequestPolicy } from '../mesh/policy/request/explain.ts'
import { isOwnGateway, type OwnGateway } from './config/own-gateway.ts'
import type { Backend, RouteOutcome } from './exchange/types.ts'
import type { Call, CallSource } from './listener/call.ts'
import { decideTunnel } from './listener/decide-tunnel.ts'
import { Enforcement } from './policy/enforcement.ts'
import type { PolicyRefusal } from './policy/policy-gate.ts'
import { RequestRouter } from './request-router.ts'
import {
  type ConnectionWay,
  needsServerName,
  routeConnection,
  ruleFor,
} from './router/connection-route.ts'
import type { RouteHit } from './router/types.ts'
import { chooseUpstream, type UpstreamChoice } from './upstream/choose-upstream.ts'

/** One waypoint as its dump has it. */
export interface CopiedWaypoint {
  readonly own: OwnGateway
  readonly mesh: MeshState
}

/** What policies make of it. */
interface Judged {
  readonly policies: readonly ExplainedRequestPolicy[]
  readonly refusal: PolicyRefusal | undefined
}

export type ExplainedRequest =
  /** There is no tunnel to it. */
  | { readonly kind: 'rejected'; readonly message: string }
  /** It goes on as it is, or is refused: its port carries no requests, or routes of connections alone are at it. */
  | (Judged & {
      readonly kind: 'connection'
      readonly backend: Backend
      /** By whom it is led; undefined: by nobody, it goes where it was sent. */
      readonly led: LedConnection | undefined
    })
  | (Judged & {
      readonly kind: 'request'
      /** Of a path that cannot be read nobody is asked. */
      readonly outcome: RouteOutcome
      /** Undefined: it has none, or none was asked. */
      readonly routes: HttpRoutes | undefined
      readonly hit: RouteHit | undefined
      readonly backend: Backend
    })

/** What routes of connections make of one. */
interface LedConnection {
  /** For whom a client is taken to ask by TLS; undefined: for the routes it is the same whether it speaks TLS. */
  readonly serverName: string | undefined
  /** Undefined: none takes it. */
  readonly rule: ConnectionRule | undefined
  readonly way: ConnectionWay
}

/** Explains one request of a client to what it called. Of what is chosen at random the first is told. */
export function explainRequestAt(
  { own, mesh }: CopiedWaypoint,
  source: CallSource,
  target: SocketAddress,
  head: RequestHead,
): ExplainedRequest {
  const { namespace, gatewayName } = own
  const isOwn = isOwnGateway(own, mesh)
  const decision = decideTunnel({ mesh, namespace, isOwn }, formatSocketAddress(target))
  if (decision.kind === 'reject') return { kind: 'rejected', message: decision.message }
  const { backend, protocol } = decision
  const call: Call = { ...decision, source, startedAt: 0 }
  const policies = new Enforcement(
    { mesh, waypoint: { namespace, name: gatewayName }, audit: NOBODYS_AUDIT },
    tellNobody,
  )
  try {
    const routes =
      backend.kind === 'service'
        ? mesh.httpRoutes.find(backend.service, backend.port, source.identity)
        : undefined
    const { rules = [], connections = [] } = routes ?? {}
    // As listener/tunnels.ts has it: where there are routes of requests, those of connections are for what carries none; and a client may
    // leave TLS to the waypoint.
    const originates =
      backend.kind === 'service' &&
      mesh.backendTls.find(backend.service, backend.port) !== undefined
    const carriesNone = protocol === 'tcp' || (protocol === 'tls' && !originates)
    if (carriesNone || (connections.length > 0 && rules.length === 0)) {
      const speaksTls = protocol === 'tls' || needsServerName(connections)
      const carried = speaksTls ? { ...call, serverName: serverNameIn(head) } : call
      return {
        kind: 'connection',
        backend,
        led: connections.length === 0 ? undefined : leadConnection(connections, head),
        policies: policies.explain(carried, undefined),
        refusal: policies.connection(carried),
      }
    }
    return explainHttp(policies, { mesh, call, head })
  } finally {
    policies.close()
  }
}

/** Where TLS is expected, the client is taken for one that asks for the host it would name in a request. */
function serverNameIn({ authority }: RequestHead): string {
  return authority.replace(/:\d+$/, '').toLowerCase()
}

function leadConnection(rules: readonly ConnectionRule[], head: RequestHead): LedConnection {
  const serverName = needsServerName(rules) ? serverNameIn(head) : undefined
  const tls = serverName === undefined ? undefined : { serverName }
  return { serverName, rule: ruleFor(rules, tls), way: routeConnection(rules, tls, () => 0) }
}

function explainHttp(
  policies: Enforcement,
  {
    mesh,
    call,
    head,
  }: { readonly mesh: MeshState; readonly call: Call; readonly head: RequestHead },
): ExplainedRequest {
  const { backend } = call
  let judged: Judged = { policies: [], refusal: undefined }
  let hit: RouteHit | undefined
  let routes: HttpRoutes | undefined
  const router: RequestRouter<Call> = new RequestRouter<Call>({
    mesh,
    onProblems: tellNobody,
    random: () => 0,
    judge: (_, request) => {
      const denied = policies.request(call, request)
      judged = { policies: policies.explain(call, request), refusal: denied?.refusal }
      routes = denied === undefined ? router.routesFor(call) : undefined
      const question = head.target.indexOf('?')
      const query = question < 0 ? '' : head.target.slice(question + 1)
      hit = routes && router.match(routes, { ...request, query }, head)
      return denied
    },
  })
  const outcome = router.route(call, head)
  return { kind: 'request', outcome, routes, hit, backend, ...judged }
}

/** The endpoints that a backend may lead to; or the one reason why there is none. */
export function endpointsAt(
  { own, mesh }: CopiedWaypoint,
  source: CallSource,
  called: SocketAddress,
  backend: Backend,
  most: number,
): readonly UpstreamChoice[] {
  const found: UpstreamChoice[] = []
  const exclude = new Set<WorkloadUid>()
  while (found.length < most) {
    const choice = chooseUpstream({
      mesh,
      network: own.network,
      backend,
      source,
      called: called.address,
      random: () => 0,
      exclude,
    })
    if (choice.kind === 'none') return found.length === 0 ? [choice] : found
    found.push(choice)
    if (backend.kind === 'workload') break
    exclude.add(choice.endpoint.endpoint)
  }
  return found
}

/** What is only asked about goes on no record. */
const NOBODYS_AUDIT = { admits: () => false, recordAdmitted: tellNobody } as const

function tellNobody(): void {
  // Nothing of this has happened.
}
