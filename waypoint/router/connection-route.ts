// SPDX-License-Identifier: Apache-2.0
// Where a connection goes that is carried as it is: by the TLSRoute that names what its client asks for, else by the TCPRoute. Pure.

import type { ConnectionRule } from '../../mesh/model/http-routes.ts'
import type { Backend } from '../exchange/types.ts'
import { chooseByWeight } from './choose-by-weight.ts'

export type ConnectionWay =
  | { readonly kind: 'forward'; readonly backend: Backend }
  | { readonly kind: 'refuse'; readonly message: string }

/** Whether it has to be known what a client of TLS asks for. */
export function needsServerName(rules: readonly ConnectionRule[]): boolean {
  return rules.some(({ isTls }) => isTls)
}

/**
 * Chooses for one connection.
 *
 * @param tls what its client says as one of TLS; undefined: it does not speak TLS
 * @param random from 0 up to, not including, 1
 */
export function routeConnection(
  rules: readonly ConnectionRule[],
  tls: { readonly serverName: string | undefined } | undefined,
  random: () => number,
): ConnectionWay {
  const rule = ruleFor(rules, tls)
  if (rule === undefined) {
    const what = tls === undefined ? 'no TLS' : `TLS for ${tls.serverName ?? 'no name'}`
    return refuse(`no route takes it: it speaks ${what}`)
  }
  const { route, fault, backends } = rule
  const named = `${route.kind} ${route.namespace}/${route.name}`
  if (fault !== undefined) return refuse(`${named}: ${fault}`)
  const chosen = chooseByWeight(backends, random)
  if (chosen === undefined) return refuse(`${named}: no backend has any weight`)
  const { target } = chosen
  return target.kind === 'service'
    ? { kind: 'forward', backend: target }
    : refuse(`${named}: ${target.reason}`)
}

/** The rule that a connection falls under; undefined: none takes it. `tls`: as of routeConnection(). */
export function ruleFor(
  rules: readonly ConnectionRule[],
  tls: { readonly serverName: string | undefined } | undefined,
): ConnectionRule | undefined {
  return (tls && ruleByName(rules, tls.serverName)) ?? rules.find(({ isTls }) => !isTls)
}

/** The rule whose host names say most of the name; of equals the first. Rules without names take every client of TLS. */
function ruleByName(
  rules: readonly ConnectionRule[],
  name: string | undefined,
): ConnectionRule | undefined {
  let best: ConnectionRule | undefined
  let most = -1
  for (const rule of rules) {
    if (!rule.isTls) continue
    const specificity =
      rule.hostnames.length === 0
        ? 0
        : Math.max(...rule.hostnames.map((hostname) => specificityOf(hostname, name)))
    if (specificity > most) {
      best = rule
      most = specificity
    }
  }
  return best
}

/** -1: it is another name. A whole name says more than any suffix. */
function specificityOf(hostname: string, name: string | undefined): number {
  if (name === undefined) return -1
  if (hostname === name) return Number.MAX_SAFE_INTEGER
  if (!hostname.startsWith('*.')) return -1
  const suffix = hostname.slice(1)
  return name.length > suffix.length && name.endsWith(suffix) ? suffix.length : -1
}

function refuse(message: string): ConnectionWay {
  return { kind: 'refuse', message }
}
