// SPDX-License-Identifier: Apache-2.0
// The policies that waypoints enforce, as collections: what waypoints are offered, and how each of their objects stands to what it is
// attached to. Objects may come in any order: a policy before its Service, its Gateway or a Gateway of its class.

import type { Collection, Fetch, Graph } from '../../mesh/collections/index.ts'
import type { PolicyKey } from '../../mesh/model/policy.ts'
import type { WaypointPolicy } from '../../mesh/model/waypoint-policy.ts'
import { GATEWAY_CLASS_LABEL, GATEWAY_NAME_LABEL } from '../../mesh/model/names.ts'
import type { TranslateConfig } from '../core/config.ts'
import type { ObjectCollections } from '../core/input.ts'
import { objectKey } from '../core/origin.ts'
import { isPresent } from '../core/workload.ts'
import { isOurs } from '../gateway-api/gateway-class.ts'
import type { WaypointBindings } from '../gateway-api/waypoint-bindings.ts'
import type { AuthorizationPolicyFacts } from './authorization-policy.ts'
import { type NamedWaypoint, waypointPolicyOf } from './request-rules.ts'
import type { TargetRef } from './target-refs.ts'

/** How one thing that a policy names stands to waypoints. */
export interface Attachment {
  readonly field: string
  /** `<kind> <name>`. */
  readonly what: string
  /** `foreign`: somebody else's Gateway, of which only he can say anything. */
  readonly kind: 'bound' | 'missing' | 'unbound' | 'foreign'
  /** Why it is not bound. */
  readonly reason: string
  /** The waypoints that enforce the policy for it. */
  readonly waypoints: readonly NamedWaypoint[]
}

export interface WaypointPolicyCollections {
  readonly waypointPolicies: Collection<PolicyKey, WaypointPolicy>
  /** How a policy's targets stand to waypoints; none of a policy that is not attached to anything. */
  readonly attachmentsOf: (fetch: Fetch, facts: AuthorizationPolicyFacts) => readonly Attachment[]
}

type Objects = Pick<
  ObjectCollections,
  'AuthorizationPolicy' | 'Service' | 'Gateway' | 'GatewayClass' | 'Pod'
>

/** Cluster-scoped objects have no namespace. */
const CLUSTER_SCOPE = ''

/** Derives them; bindings must have been derived before. */
export function deriveWaypointPolicies(
  graph: Graph,
  objects: Objects,
  { waypoints, bindingOfService }: Pick<WaypointBindings, 'waypoints' | 'bindingOfService'>,
  config: TranslateConfig,
): WaypointPolicyCollections {
  const { Gateway: gateways, GatewayClass: classes, Service: services, Pod: pods } = objects
  const byClass = gateways.index(({ cluster, className }) => [
    objectKey(cluster, CLUSTER_SCOPE, className),
  ])
  const waypointsOfClass = (fetch: Fetch, cluster: string, name: string) =>
    fetch(byClass, objectKey(cluster, CLUSTER_SCOPE, name)).filter(
      (each) => fetch(waypoints, objectKey(cluster, each.namespace, each.name)) !== undefined,
    )
  const podsByClass = pods.index((pod) => {
    const { cluster, labels } = pod.template
    const className = labels.get(GATEWAY_CLASS_LABEL)
    return className === undefined || !labels.has(GATEWAY_NAME_LABEL) || !isPresent(pod)
      ? []
      : [objectKey(cluster, CLUSTER_SCOPE, className)]
  })
  /**
   * Those that may run as waypoints of the class. A Gateway may be deleted or given to another class, and its pods serve what is bound to
   * them until they have gone; and a class that is not there may come back.
   */
  const runningOfClass = (
    fetch: Fetch,
    cluster: string,
    className: string,
  ): readonly NamedWaypoint[] => {
    const key = objectKey(cluster, CLUSTER_SCOPE, className)
    const gatewayClass = fetch(classes, key)
    if (gatewayClass !== undefined && !isOurs(gatewayClass)) return []
    const ofPods = fetch(podsByClass, key).map(({ template: { namespace, labels } }) => ({
      namespace,
      name: labels.get(GATEWAY_NAME_LABEL) ?? '',
    }))
    const ofGateways = fetch(byClass, key).map(({ namespace, name }) => ({ namespace, name }))
    return [...ofGateways, ...ofPods]
  }
  const attach = (
    fetch: Fetch,
    { cluster, namespace }: AuthorizationPolicyFacts,
    { kind, name, field }: TargetRef,
  ): Attachment => {
    const at = objectKey(cluster, namespace, name)
    const what = kind === 'GatewayClass' ? `${kind} ${name}` : `${kind} ${namespace}/${name}`
    const not = (how: Exclude<Attachment['kind'], 'bound'>, reason: string): Attachment => ({
      field,
      what,
      kind: how,
      reason,
      waypoints: [],
    })
    const bound = (those: readonly NamedWaypoint[]): Attachment => ({
      field,
      what,
      kind: 'bound',
      reason: '',
      waypoints: those.map((each) => ({ namespace: each.namespace, name: each.name })),
    })
    switch (kind) {
      case 'Gateway':
        if (fetch(waypoints, at) !== undefined) return bound([{ namespace, name }])
        return fetch(gateways, at) === undefined
          ? not('missing', 'is not there')
          : not('foreign', 'is no waypoint of this mesh')
      case 'Service': {
        const service = fetch(services, at)
        if (service === undefined) return not('missing', 'is not there')
        const binding = bindingOfService(fetch, service)
        if (binding === undefined) return not('unbound', 'uses no waypoint')
        const waypoint = fetch(waypoints, binding.asked.gateway)
        if (waypoint === undefined || !binding.isEnforced)
          return not('unbound', `has no waypoint: ${binding.message}`)
        const { canary } = binding
        return bound(canary === undefined ? [waypoint] : [waypoint, canary.asked])
      }
      case 'GatewayClass': {
        if (namespace !== config.rootNamespace)
          return not('unbound', `counts only for policies of namespace ${config.rootNamespace}`)
        const gatewayClass = fetch(classes, objectKey(cluster, CLUSTER_SCOPE, name))
        if (gatewayClass === undefined) return not('missing', 'is not there')
        return isOurs(gatewayClass)
          ? bound(waypointsOfClass(fetch, cluster, name))
          : not('foreign', 'is no class of waypoints of this mesh')
      }
      case 'ServiceEntry':
        return not('unbound', 'is of a kind that waypoints do not serve yet')
    }
  }
  return {
    waypointPolicies: graph.derive(
      'policies of waypoints',
      objects.AuthorizationPolicy,
      (fetch, facts) => {
        const policy = waypointPolicyOf(config, facts, {
          waypointsOfClass: (name) => runningOfClass(fetch, facts.cluster, name),
        })
        return policy === undefined ? [] : [[policy.key, policy]]
      },
    ),
    attachmentsOf: (fetch, facts) =>
      facts.target.kind === 'attached'
        ? facts.target.refs.refs.map((ref) => attach(fetch, facts, ref))
        : [],
  }
}
