// SPDX-License-Identifier: Apache-2.0
// What a waypoint makes of a request: its policies rule by rule, the route and rule that take it, and where that leads. Pure.

import type { RequestHead } from '../../mesh/http/message.ts'
import type { ConnectionRule, HttpRoutes } from '../../mesh/model/http-routes.ts'
import type { BackendTls } from '../../mesh/model/backend-tls.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { SocketAddress, Workload } from '../../mesh/model/types.ts'
import {
  type CopiedWaypoint,
  endpointsAt,
  type ExplainedRequest,
  explainRequestAt,
} from '../../waypoint/explain-request.ts'
import type { CallSource } from '../../waypoint/listener/call.ts'
import type { Backend } from '../../waypoint/exchange/types.ts'
import { connectionLines, ruleLines, matchText, routeText } from './rule-lines.ts'
import { policyDetails, policyStep } from './request-policy-step.ts'
import type { Step } from './steps.ts'

/** More endpoints of a Service are not told. */
const MOST_ENDPOINTS = 16

export interface WaypointAsked {
  /** `namespace/name` of the Gateway. */
  readonly name: string
  readonly waypoint: CopiedWaypoint
  readonly source: CallSource
  readonly target: SocketAddress
  readonly head: RequestHead
  /** Whether somebody has said what the request is to be. */
  readonly isRequestSaid: boolean
}

/** Where it may lead; none where the waypoint answers. */
export interface WaypointEnd {
  readonly steps: readonly Step[]
  readonly endpoints: readonly { readonly workload: Workload; readonly target: SocketAddress }[]
}

/** Asks it. */
export function waypointSteps(asked: WaypointAsked): WaypointEnd {
  const { name, waypoint, source, target, head } = asked
  const explained = explainRequestAt(waypoint, source, target, head)
  const object = `Gateway ${name}`
  if (explained.kind === 'rejected')
    return closed({
      step: 'waypoint',
      result: 'stop',
      what: `waypoint ${name} refuses the tunnel: ${explained.message}`,
      object,
    })
  if (explained.kind === 'connection') return connectionSteps(asked, explained)
  const at: Step = {
    step: 'waypoint',
    result: 'ok',
    what: `waypoint ${name} reads ${head.method} ${head.target} for ${head.authority}`,
    object,
  }
  const policy = policyStep(explained, { name, who: source.identity, head })
  if (policy.result === 'stop') return { steps: [at, policy], endpoints: [] }
  const route = routeStep(explained, head)
  const steps = [at, policy, route]
  return explained.outcome.kind === 'answer'
    ? { steps, endpoints: [] }
    : leads(asked, steps, backendsOf(explained))
}

/** What is carried as it is: by the routes of connections, where there are any. */
function connectionSteps(
  asked: WaypointAsked,
  { refusal, policies, backend, led }: Connection,
): WaypointEnd {
  const { name, isRequestSaid } = asked
  if (refusal !== undefined)
    return closed({
      step: 'waypoint',
      result: 'stop',
      what: `waypoint ${name} closes the connection: ${refusal.message}`,
      ...(refusal.by?.madeOf !== undefined && { object: refusal.by.madeOf }),
      details: policyDetails(policies),
    })
  const why =
    led === undefined
      ? 'its port has no requests that could be read'
      : 'routes of connections are at its port, and none of requests'
  const carried: Step = {
    step: 'waypoint',
    result: 'ok',
    what: `waypoint ${name} carries it as it is: ${why}`,
    object: `Gateway ${name}`,
    details: policyDetails(policies),
  }
  const steps = isRequestSaid ? [carried, unread(name)] : [carried]
  if (led === undefined) return leads(asked, steps, [backend])
  const { rule, way, serverName } = led
  const what = serverName === undefined ? 'the connection' : `TLS for ${serverName}`
  const object = rule && { object: objectOf(rule) }
  if (way.kind === 'refuse')
    return {
      steps: [
        ...steps,
        {
          step: 'waypoint',
          result: 'stop',
          what: `waypoint ${name} closes the connection: ${way.message}`,
          ...object,
          change: rule === undefined ? 'add a route that takes it' : 'correct that rule',
        },
      ],
      endpoints: [],
    }
  const route: Step = {
    step: 'route',
    result: 'ok',
    what: `${rule === undefined ? 'a route' : routeText(rule.route)} takes ${what}`,
    ...object,
    details: rule === undefined ? [] : connectionLines(rule),
  }
  const backends = (rule?.backends ?? []).flatMap(({ target, weight }) =>
    weight > 0 && target.kind === 'service' ? [target] : [],
  )
  return leads(asked, [...steps, route], backends, serverName !== undefined)
}

function unread(name: string): Step {
  return {
    step: 'waypoint',
    result: 'note',
    what: `waypoint ${name} reads no requests there: what was said of method, path and headers decides nothing`,
  }
}

function objectOf({ route }: ConnectionRule): string {
  return `${route.kind} ${route.namespace}/${route.name}`
}

function closed(step: Step): WaypointEnd {
  return { steps: [step], endpoints: [] }
}

type Read = Extract<ExplainedRequest, { readonly kind: 'request' }>
type Connection = Extract<ExplainedRequest, { readonly kind: 'connection' }>

/** All that may be chosen. */
function backendsOf({ hit, backend }: Read): readonly Backend[] {
  if (hit === undefined) return [backend]
  return hit.rule.backends.flatMap(({ target, weight }) =>
    weight > 0 && target.kind === 'service' ? [target] : [],
  )
}

function leads(
  { name, waypoint, source, target }: WaypointAsked,
  before: readonly Step[],
  all: readonly Backend[],
  isTls = false,
): WaypointEnd {
  // Clients that speak TLS themselves are let be.
  const originated = all.map((each) => (isTls ? undefined : backendTlsOf(waypoint.mesh, each)))
  const backends = all.filter((_, at) => originated[at]?.fault === undefined)
  const steps = [...before, ...tlsSteps(name, originated, backends.length === 0)]
  const choices = backends.flatMap((each) =>
    endpointsAt(waypoint, source, target, each, MOST_ENDPOINTS),
  )
  const endpoints = choices.flatMap((choice) => (choice.kind === 'none' ? [] : [choice]))
  const missing = choices.flatMap((choice): Step[] =>
    choice.kind === 'none'
      ? [
          {
            step: 'endpoint',
            result: endpoints.length === 0 ? 'stop' : 'note',
            what: choice.message,
            change: 'look at the endpoints of that Service (kubectl get endpointslices)',
          },
        ]
      : [],
  )
  return { steps: [...steps, ...missing], endpoints }
}

function backendTlsOf({ backendTls }: MeshState, backend: Backend): BackendTls | undefined {
  return backend.kind === 'service' ? backendTls.find(backend.service, backend.port) : undefined
}

/** What BackendTLSPolicies say of the backends, each once. `isAll`: nothing is left where it could go. */
function tlsSteps(
  name: string,
  originated: readonly (BackendTls | undefined)[],
  isAll: boolean,
): readonly Step[] {
  return [...new Set(originated)].flatMap((tls): Step[] => {
    if (tls === undefined) return []
    const { policy, service, port, hostname, subjectAltNames, authorities, fault } = tls
    const object = `BackendTLSPolicy ${policy}`
    const to = port === undefined ? service : `${service} port ${port}`
    if (fault !== undefined)
      return [
        {
          step: 'tls',
          result: isAll ? 'stop' : 'note',
          what: `waypoint ${name} sends nothing to ${to}: nobody can be trusted to be it: ${fault}`,
          object,
          change: 'correct that policy, or the ConfigMap that it names',
        },
      ]
    const names = subjectAltNames.map(({ value }) => value)
    return [
      {
        step: 'tls',
        result: 'ok',
        what: `waypoint ${name} speaks TLS to ${to}, and asks for ${hostname}`,
        object,
        details: [
          `the certificate is for ${names.length === 0 ? hostname : names.join(' or ')}`,
          `trusted are ${authorities === undefined ? "the well-known authorities of the waypoint's system" : 'the authorities of the ConfigMap that it names'}`,
        ],
      },
    ]
  })
}

function routeStep({ outcome, routes, hit, backend }: Read, head: RequestHead): Step {
  const asked = `${head.method} ${head.target}`
  if (routes === undefined && outcome.kind === 'answer')
    return {
      step: 'route',
      result: 'stop',
      what: `${asked} is answered ${outcome.status}: ${outcome.body}`,
    }
  if (routes === undefined)
    return {
      step: 'route',
      result: 'ok',
      what: `no route counts for ${backend.kind === 'service' ? `${backend.service} port ${backend.port}` : 'a pod that is called by its own address'}: it goes where it was sent`,
    }
  if (hit === undefined)
    return {
      step: 'route',
      result: 'stop',
      what: `${asked} is answered 404 (NR): no rule takes it`,
      object: routeNames(routes),
      change: 'add a rule whose matches take it, or one without matches for the rest',
      details: routes.rules.flatMap(({ route, matches }) =>
        matches.map((match) => `${routeText(route)} takes ${matchText(match)}`),
      ),
    }
  const { route } = hit.rule
  const about = {
    step: 'route',
    object: `${route.kind} ${route.namespace}/${route.name}`,
    details: ruleLines(hit.rule, outcome),
  } as const
  const taken = `${routeText(route)} takes ${asked} by ${matchText(hit.match)}`
  if (outcome.kind === 'forward') return { ...about, result: 'ok', what: taken }
  const isFault = outcome.status >= 400
  return {
    ...about,
    result: isFault ? 'stop' : 'note',
    what: `${taken}, and the waypoint answers ${outcome.status} itself`,
    ...(isFault && { change: 'correct that rule' }),
  }
}

function routeNames({ rules }: HttpRoutes): string {
  const names = rules.map(({ route }) => `${route.kind} ${route.namespace}/${route.name}`)
  return [...new Set(names)].join(', ')
}
