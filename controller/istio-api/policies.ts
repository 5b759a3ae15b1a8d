// SPDX-License-Identifier: Apache-2.0
// The policies of the mesh, as collections: what agents are sent, and which of it each workload names.

import type { Collection, Fetch, Graph } from '../../mesh/collections/index.ts'
import type { Policy, PolicyKey } from '../../mesh/model/policy.ts'
import type { TranslateConfig } from '../core/config.ts'
import type { ObjectCollections } from '../core/input.ts'
import type { ObjectKey } from '../core/origin.ts'
import type { PodTemplate } from '../core/pod.ts'
import type { PolicyStatus } from '../status/policy-status.ts'
import { authorizationOf } from './authorization-rules.ts'
import { authorizationStatus } from '../status/authorization-status.ts'
import { type Area, WHOLE_MESH } from './placed-policy.ts'
import { selectionOf } from './selection.ts'

/** What follows from policy objects. */
export interface PolicyCollections {
  readonly policies: readonly Collection<PolicyKey, Policy>[]
  /** What is to be said of each object. */
  readonly statuses: readonly Collection<ObjectKey, PolicyStatus>[]
  /** The policies that a workload of this template names, in the order of their keys. */
  readonly namedBy: (
    fetch: Fetch,
    template: Pick<PodTemplate, 'namespace' | 'labels'>,
  ) => readonly PolicyKey[]
}

/** Derives the policies; workloads that are derived after them may name them. */
export function derivePolicies(
  graph: Graph,
  objects: Pick<ObjectCollections, 'AuthorizationPolicy' | 'PeerAuthentication'>,
  config: TranslateConfig,
): PolicyCollections {
  const placed = graph.derive('placed policies', objects.AuthorizationPolicy, (_fetch, facts) => {
    const each = authorizationOf(config, facts)
    return each === undefined ? [] : [[each.policy.key, each]]
  })
  const authorizations = selectionOf(graph, 'authorization policies', placed)
  const ofAuthorizations = graph.derive('authorization policies', placed, (_fetch, { policy }) => [
    [policy.key, policy],
  ])
  const statuses = graph.derive(
    'statuses of authorization policies',
    objects.AuthorizationPolicy,
    (_fetch, facts, key) => [[key, authorizationStatus(config, facts)]],
  )
  return {
    policies: [ofAuthorizations],
    statuses: [statuses],
    namedBy: (fetch, { namespace, labels }) => {
      const named = [namespace as Area, WHOLE_MESH].flatMap((area) =>
        authorizations.byLabels(fetch, area, labels).map(({ policy }) => policy.key),
      )
      return named.toSorted()
    },
  }
}
