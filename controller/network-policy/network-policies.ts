// SPDX-License-Identifier: Apache-2.0
// The NetworkPolicies of the mesh, as collections: what agents are sent, which of it selects each workload, and which groups of peers each
// workload is in. A pod asks for what its own labels are looked up by, and its namespace's labels are asked once for all of its pods.

import type { Collection, Fetch, Graph } from '../../mesh/collections/index.ts'
import type { NetworkPolicy } from '../../mesh/model/network-policy.ts'
import type { PolicyKey } from '../../mesh/model/policy.ts'
import type { ObjectCollections } from '../core/input.ts'
import { objectKey } from '../core/origin.ts'
import type { PodTemplate } from '../core/pod.ts'
import { type Area, WHOLE_MESH } from '../istio-api/placed-policy.ts'
import { selectionOf, type Shape } from '../istio-api/selection.ts'
import { type Labels, selects } from './label-selector.ts'
import type { NetworkPolicyFacts } from './network-policy.ts'
import { NAMESPACE_NAME_LABEL, type PeerGroup } from './peer-reader.ts'

/** What a workload has to say of NetworkPolicies, each in the order of names. */
export interface NetworkStanding {
  readonly policies: readonly string[]
  readonly groups: readonly string[]
}

export interface NetworkPolicyCollections {
  readonly networkPolicies: Collection<PolicyKey, NetworkPolicy>
  readonly standingOf: (
    fetch: Fetch,
    template: Pick<PodTemplate, 'cluster' | 'namespace' | 'labels' | 'isHostNetwork'>,
  ) => NetworkStanding
}

/** The same for all pods of a namespace. */
interface NetworkSurroundings {
  /** Undefined while the namespace is not known: then nobody can say that some selector selects it. */
  readonly labels: Labels | undefined
  readonly policyShapes: readonly Shape[]
  readonly groupShapes: readonly Shape[]
  /** What is not looked up by labels, and may concern the namespace's pods. */
  readonly policies: readonly NetworkPolicyFacts[]
  readonly groups: readonly PeerGroup[]
}

/** Cluster-scoped objects have no namespace. */
const CLUSTER_SCOPE = ''
const NO_STANDING: NetworkStanding = { policies: [], groups: [] }

/** Derives the policies; workloads that are derived after them may name them. */
export function deriveNetworkPolicies(
  graph: Graph,
  {
    NetworkPolicy: objects,
    Namespace: namespaces,
  }: Pick<ObjectCollections, 'NetworkPolicy' | 'Namespace'>,
): NetworkPolicyCollections {
  const peerGroups = graph.derive('peer groups', objects, (_fetch, { groups }) =>
    groups.map((group) => [group.name, group] as const),
  )
  const policySelection = selectionOf(graph, 'network policies', objects)
  const groupSelection = selectionOf(graph, 'peer groups', peerGroups)
  const around = (
    fetch: Fetch,
    namespace: string,
    labels: Labels | undefined,
  ): NetworkSurroundings => {
    const area = namespace as Area
    const named = labels && new Map([...labels, [NAMESPACE_NAME_LABEL, namespace]])
    return {
      labels: named,
      policyShapes: policySelection.shapes(fetch, area),
      groupShapes: [area, WHOLE_MESH].flatMap((each) => groupSelection.shapes(fetch, each)),
      policies: policySelection.ofAll(fetch, area),
      groups: [area, WHOLE_MESH].flatMap((each) =>
        groupSelection.ofAll(fetch, each).filter((group) => isIn(group, namespace, named)),
      ),
    }
  }
  const surroundings = graph.derive(
    'network policies around namespaces',
    namespaces,
    (fetch, { labels }, key) => [[key, around(fetch, key.slice(key.lastIndexOf('/') + 1), labels)]],
  )
  return {
    networkPolicies: graph.derive('network policies', objects, (_fetch, { policy }) => [
      [policy.key, policy],
    ]),
    standingOf: (fetch, { cluster, namespace, labels, isHostNetwork }) => {
      // What uses the node's network has the node's address, by which nobody can tell it from others there.
      if (isHostNetwork) return NO_STANDING
      const known =
        fetch(surroundings, objectKey(cluster, CLUSTER_SCOPE, namespace)) ??
        // A pod may be told of before its namespace is, and is selected all the same.
        around(fetch, namespace, undefined)
      const policies = [
        ...policySelection.select(fetch, known.policyShapes, labels),
        ...known.policies,
      ].filter(({ pods }) => selects(pods, labels))
      const groups = [
        ...groupSelection
          .select(fetch, known.groupShapes, labels)
          .filter((group) => isIn(group, namespace, known.labels)),
        ...known.groups,
      ].filter(({ pods }) => selects(pods, labels))
      if (policies.length === 0 && groups.length === 0) return NO_STANDING
      return {
        policies: policies.map(({ policy }) => policy.key as string).toSorted(),
        groups: groups.map(({ name }) => name).toSorted(),
      }
    },
  }
}

function isIn({ area, namespaces }: PeerGroup, namespace: string, labels?: Labels): boolean {
  return area === namespace || (labels !== undefined && selects(namespaces, labels))
}
