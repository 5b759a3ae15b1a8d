// SPDX-License-Identifier: Apache-2.0
// What a rule of a route asks for and does, in words. Pure.

import type {
  ConnectionRule,
  HttpBackend,
  HttpFilter,
  HttpMatch,
  HttpRule,
  NamedMatch,
  RouteName,
} from '../../mesh/model/http-routes.ts'
import type { RouteOutcome } from '../../waypoint/exchange/types.ts'

export function routeText({ kind, namespace, name, rule }: RouteName): string {
  return `${kind} ${namespace}/${name} rule ${rule}`
}

/** What a match wants. */
export function matchText({ path, method, headers, queryParams }: HttpMatch): string {
  const named = (what: string, { name, match }: NamedMatch): string =>
    `${what} ${name}${match.kind === 'regex' ? '~' : '='}${match.value}`
  return [
    `path ${path.kind} ${path.value}`,
    ...(method === undefined ? [] : [`method ${method}`]),
    ...headers.map((each) => named('header', each)),
    ...queryParams.map((each) => named('query', each)),
  ].join(', ')
}

/** What the rule does with the request: where it leads, and what is changed on the way. */
export function ruleLines(rule: HttpRule, outcome: RouteOutcome): readonly string[] {
  if (outcome.kind === 'answer') {
    const message =
      'message' in outcome && typeof outcome.message === 'string' ? outcome.message : ''
    return [
      ...(message === '' ? [] : [message]),
      ...outcome.headers.map(([name, value]) => `${name}: ${value}`),
    ]
  }
  const { target, authority, requestMs, backendRequestMs, retry, requestEdits, responseEdits } =
    outcome
  const { session } = rule
  const total = rule.backends.reduce((sum, { weight }) => sum + weight, 0)
  return [
    ...rule.backends.map((backend) => backendLine(backend, total)),
    ...(session === undefined ? [] : [`clients come back by ${session.kind} ${session.name}`]),
    ...(target === undefined ? [] : [`its path goes on as ${target}`]),
    ...(authority === undefined ? [] : [`its host goes on as ${authority}`]),
    ...(requestEdits === undefined ? [] : ['headers of the request are changed']),
    ...(responseEdits === undefined ? [] : ['headers of the answer are changed']),
    ...rule.filters.flatMap(mirrorLine),
    ...(requestMs === 0 ? [] : [`504 after ${requestMs} ms`]),
    ...(backendRequestMs === 0 ? [] : [`each try has ${backendRequestMs} ms`]),
    ...(retry === undefined
      ? []
      : [`tried up to ${retry.attempts} more times, on ${retry.codes.join(', ') || 'no status'}`]),
  ]
}

/** Where the rule leads connections. */
export function connectionLines({ backends }: ConnectionRule): readonly string[] {
  const total = backends.reduce((sum, { weight }) => sum + weight, 0)
  return backends.map(({ target, weight }) =>
    target.kind === 'service'
      ? `${weight} of ${total} to ${target.service} port ${target.port}`
      : `${weight} of ${total} to nobody: ${target.reason}`,
  )
}

function backendLine({ target, weight }: HttpBackend, total: number): string {
  const share = `${weight} of ${total} to`
  return target.kind === 'service'
    ? `${share} ${target.service} port ${target.port}`
    : `${share} nobody, answered 500: ${target.reason}`
}

function mirrorLine(filter: HttpFilter): readonly string[] {
  if (filter.kind !== 'mirror' || filter.backend.kind !== 'service') return []
  const { backend, numerator, denominator } = filter
  return [
    `a copy goes to ${backend.service} port ${backend.port}, of ${numerator} in ${denominator} requests`,
  ]
}
