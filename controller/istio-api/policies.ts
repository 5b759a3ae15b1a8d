// SPDX-License-Identifier: Apache-2.0
// The policies of the mesh, as collections: what agents are sent, which of it each workload names, and what is to be said of each
// object, those that waypoints enforce among them.

import type { Collection, Fetch, Graph } from '../../mesh/collections/index.ts'
import type { Policy, PolicyKey } from '../../mesh/model/policy.ts'
import { mutualTlsOf, oldest, policyOfMutualTls } from '../../mesh/policy/peer-authentication.ts'
import type { TranslateConfig } from '../core/config.ts'
import type { ObjectCollections } from '../core/input.ts'
import { objectKey, type ObjectKey } from '../core/origin.ts'
import type { PodTemplate } from '../core/pod.ts'
import { attachedStatus } from '../status/attached-status.ts'
import { authorizationStatus } from '../status/authorization-status.ts'
import { peerStatus } from '../status/peer-status.ts'
import type { PolicyStatus } from '../status/policy-status.ts'
import { authorizationOf } from './authorization-rules.ts'
import {
  closedPeerPolicy,
  inForceAt,
  type PlacedPeer,
  placedPeer,
  rivalsOf,
} from './peer-placement.ts'
import type { Area, PlacedPolicy } from './placed-policy.ts'
import { type Selection, selectionOf } from './selection.ts'
import { surroundingsOf } from './surroundings.ts'
import type { WaypointPolicyCollections } from './waypoint-policies.ts'

/** What follows from policy objects. */
export interface PolicyCollections {
  readonly policies: readonly Collection<PolicyKey, Policy>[]
  /** What is to be said of each object. */
  readonly statuses: readonly Collection<ObjectKey, PolicyStatus>[]
  /** The policies that a workload of this template names, in the order of their keys. */
  readonly namedBy: (
    fetch: Fetch,
    template: Pick<PodTemplate, 'cluster' | 'namespace' | 'labels'>,
  ) => readonly PolicyKey[]
}

type PolicyObjects = Pick<
  ObjectCollections,
  'AuthorizationPolicy' | 'PeerAuthentication' | 'Namespace'
>

/** What comes of the objects of one kind. */
interface OfKind<Placed> {
  readonly policies: Collection<PolicyKey, Policy>
  readonly statuses: Collection<ObjectKey, PolicyStatus>
  readonly selection: Selection<Placed>
}

/** Cluster-scoped objects have no namespace. */
const CLUSTER_SCOPE = ''

/** Derives the policies; workloads that are derived after them may name them. */
export function derivePolicies(
  graph: Graph,
  objects: PolicyObjects,
  ofWaypoints: WaypointPolicyCollections,
  config: TranslateConfig,
): PolicyCollections {
  const authorizations = deriveAuthorizations(graph, objects, ofWaypoints, config)
  const peers = derivePeers(graph, objects, config)
  const around = (fetch: Fetch, namespace: string) =>
    surroundingsOf(fetch, namespace as Area, authorizations.selection, peers.selection)
  const surroundings = graph.derive(
    'surroundings of namespaces',
    objects.Namespace,
    (fetch, _facts, key) => [[key, around(fetch, key.slice(key.lastIndexOf('/') + 1))]],
  )
  return {
    policies: [authorizations.policies, peers.policies],
    statuses: [authorizations.statuses, peers.statuses],
    namedBy: (fetch, { cluster, namespace, labels }) => {
      const known = fetch(surroundings, objectKey(cluster, CLUSTER_SCOPE, namespace))
      // A pod may be told of before its namespace is, and has its policies all the same.
      const { mesh, namespace: wide, ...shapes } = known ?? around(fetch, namespace)
      const workload = oldest(peers.selection.select(fetch, shapes.peers, labels))
      const mutualTls = policyOfMutualTls(
        config.rootNamespace,
        mutualTlsOf({ mesh, namespace: wide, workload }),
      )
      const selected = authorizations.selection.select(fetch, shapes.authorizations, labels)
      const keys = selected.map(({ policy }) => policy.key)
      return (mutualTls === undefined ? keys : [...keys, mutualTls.key]).toSorted()
    },
  }
}

function deriveAuthorizations(
  graph: Graph,
  { AuthorizationPolicy: objects }: PolicyObjects,
  { waypointPolicies, attachmentsOf }: WaypointPolicyCollections,
  config: TranslateConfig,
): OfKind<PlacedPolicy> {
  const placed = graph.derive('placed policies', objects, (_fetch, facts) => {
    const each = authorizationOf(config, facts)
    return each === undefined ? [] : [[each.policy.key, each]]
  })
  return {
    selection: selectionOf(graph, 'authorization policies', placed),
    policies: graph.derive('authorization policies', placed, (_fetch, { policy }) => [
      [policy.key, policy],
    ]),
    statuses: graph.derive('statuses of authorization policies', objects, (fetch, facts, key) => {
      const { namespace, name, target } = facts
      if (target.kind !== 'attached') return [[key, authorizationStatus(config, facts)]]
      const policy = fetch(waypointPolicies, `${namespace}/${name}` as PolicyKey)
      const status = attachedStatus(config, facts, attachmentsOf(fetch, facts), policy)
      return status === undefined ? [] : [[key, status]]
    }),
  }
}

function derivePeers(
  graph: Graph,
  { PeerAuthentication: objects }: PolicyObjects,
  config: TranslateConfig,
): OfKind<PlacedPeer> {
  const placed = graph.derive('placed peer authentications', objects, (_fetch, facts, key) => {
    const each = placedPeer(config, facts)
    return each === undefined ? [] : [[key, each]]
  })
  const selection = selectionOf(graph, 'peer authentications', placed)
  const policies = graph.derive('mutual TLS', objects, (fetch, facts, key) => {
    const policy =
      closedPeerPolicy(config, facts) ?? policyOfPeer(config, selection, fetch, fetch(placed, key))
    return policy === undefined ? [] : [[policy.key, policy]]
  })
  const statuses = graph.derive(
    'statuses of peer authentications',
    objects,
    (fetch, facts, key) => {
      const each = fetch(placed, key)
      const policy = closedPeerPolicy(config, facts) ?? policyOfPeer(config, selection, fetch, each)
      const others = each === undefined ? undefined : rivalsOf(selection, fetch, each)
      return [[key, peerStatus(facts, policy, others)]]
    },
  )
  return { selection, policies, statuses }
}

/** The policy that this object decides of; what another one decides is that one's. */
function policyOfPeer(
  { rootNamespace }: TranslateConfig,
  selection: Selection<PlacedPeer>,
  fetch: Fetch,
  peer: PlacedPeer | undefined,
): Policy | undefined {
  if (peer === undefined) return undefined
  const asked = mutualTlsOf(inForceAt(selection, fetch, peer))
  return asked.by === peer ? policyOfMutualTls(rootNamespace, asked) : undefined
}
