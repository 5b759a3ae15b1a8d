// SPDX-License-Identifier: Apache-2.0
// Routes as users write them, and what follows from them in words.

import type { InputObjects } from '../../controller/core/input.ts'
import type { RouteStatus } from '../../controller/status/route-status.ts'
import type { HttpRule } from '../../mesh/model/http-routes.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { kubeService, startTranslator } from '../core/objects.ts'

type Route = InputObjects['HTTPRoute']
type Json = Readonly<Record<string, unknown>>

export const CATALOG = 'shop/catalog.shop.svc.cluster.local'

export interface RouteChoices {
  readonly namespace?: string
  readonly createdAt?: string
  readonly parents?: readonly Json[]
  readonly status?: unknown
}

export const serviceParent = (name: string, more: Json = {}): Json => ({
  group: '',
  kind: 'Service',
  name,
  ...more,
})

/** A route of the Service `catalog`. */
export function kubeRoute(name: string, rules: unknown, choices: RouteChoices = {}): Route {
  const { namespace = 'shop', createdAt = '2026-01-01T00:00:00Z' } = choices
  const metadata = { name, namespace, uid: name, generation: 1, creationTimestamp: createdAt }
  const { parents = [serviceParent('catalog')], status } = choices
  return { metadata, spec: { parentRefs: parents, rules }, ...(status ? { status } : {}) }
}

export const backend = (name: string, more: Json = {}): Json => ({ name, port: 80, ...more })

/** Grants routes of namespace `from` the Services of namespace `shop`. */
export function kubeGrant(
  name: string,
  from: string,
  to: Json = {},
): InputObjects['ReferenceGrant'] {
  return {
    metadata: { name, namespace: 'shop' },
    spec: {
      from: [{ group: 'gateway.networking.k8s.io', kind: 'HTTPRoute', namespace: from }],
      to: [{ group: '', kind: 'Service', ...to }],
    },
  }
}

/** A mesh with the Services catalog, catalog-v1 and catalog-v2 in namespace shop. */
export function startShop() {
  const run = startTranslator()
  run.translator.complete()
  for (const name of ['catalog', 'catalog-v1', 'catalog-v2'])
    run.translator.upsert('Service', kubeService(name))
  return {
    ...run,
    rules: (port = 80, client?: SpiffeId): readonly HttpRule[] | undefined =>
      run.state.httpRoutes.find(CATALOG, port, client)?.rules,
    /** Each condition at each parent, without its message. */
    conditions: (name: string): readonly string[] => conditionsOf(run.routeStatuses(name)),
    message: (name: string, type: string): string | undefined =>
      run.routeStatuses(name)[0]?.parents[0]?.verdicts.find((verdict) => verdict.type === type)
        ?.message,
  }
}

function conditionsOf(statuses: readonly RouteStatus[]): readonly string[] {
  return statuses.flatMap(({ parents }) =>
    parents.map(({ parentRef, verdicts }) =>
      [
        `${String(parentRef.name)}:`,
        ...verdicts.map(({ type, status, reason }) =>
          type === reason ? `${type}=${status}` : `${type}=${status}/${reason}`,
        ),
      ].join(' '),
    ),
  )
}
