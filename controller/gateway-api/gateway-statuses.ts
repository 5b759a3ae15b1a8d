// SPDX-License-Identifier: Apache-2.0
// What the statuses of our Gateways, of their classes, and of the Services that are bound to them are to say.

import type { Collection, Graph } from '../../mesh/collections/index.ts'
import type { ObjectCollections } from '../core/input.ts'
import type { ObjectKey } from '../core/origin.ts'
import type { ServiceFacts } from '../core/service.ts'
import type { Outcomes } from '../provisioner/outcomes.ts'
import type { Verdict } from '../status/acceptance.ts'
import { mergedConditions } from '../status/conditions.ts'
import type { StatusSource, WantedStatus } from '../status/wanted-status.ts'
import { type GatewayClassFacts, isOurs } from './gateway-class.ts'
import { type GatewayStanding, gatewayStatus } from './gateway-status.ts'
import type { Binding } from './waypoint-binding.ts'
import type { WaypointBindings } from './waypoint-bindings.ts'

/** Istio's name of the condition of a Service. */
const WAYPOINT_BOUND = 'istio.io/WaypointBound'
const NO_PODS = { ready: 0, all: 0 }

/** A Service that has something to say of waypoints, or has said it. */
export interface ServiceBinding {
  readonly service: Pick<ServiceFacts, 'namespace' | 'name' | 'seen'>
  readonly binding: Binding | undefined
}

export interface GatewayStatusInputs {
  readonly standings: Collection<ObjectKey, GatewayStanding>
  readonly classes: Collection<ObjectKey, GatewayClassFacts>
  readonly services: Collection<ObjectKey, ServiceBinding>
}

/** Derives what statuses are made of. */
export function deriveGatewayStatuses(
  graph: Graph,
  objects: ObjectCollections,
  { waypoints, pods, bindingOfService }: WaypointBindings,
): GatewayStatusInputs {
  const standings = graph.derive('standings of gateways', waypoints, (fetch, waypoint, key) => {
    const gateway = fetch(objects.Gateway, key)
    if (gateway === undefined) return []
    // A waypoint's Service has its name.
    const service = fetch(objects.Service, key)
    const standing: GatewayStanding = {
      gateway,
      waypoint,
      pods: fetch(pods, key) ?? NO_PODS,
      addresses: service?.clusterIps.map(({ value }) => value) ?? [],
    }
    return [[key, standing]]
  })
  const services = graph.derive('bound services', objects.Service, (fetch, service, key) => {
    const binding = bindingOfService(fetch, service)
    const hasSaid = service.seen.conditions.some(isBoundCondition)
    if (binding === undefined && !hasSaid) return []
    const { namespace, name, seen } = service
    return [[key, { service: { namespace, name, seen }, binding }]]
  })
  return { standings, classes: objects.GatewayClass, services }
}

/** Says what differs. */
export class GatewayStatuses implements StatusSource {
  readonly #inputs: GatewayStatusInputs
  readonly #outcomes: Outcomes

  constructor(inputs: GatewayStatusInputs, outcomes: Outcomes) {
    this.#inputs = inputs
    this.#outcomes = outcomes
  }

  get size(): number {
    const { standings, classes, services } = this.#inputs
    return standings.size + classes.size + services.size
  }

  onChange(listener: () => void): () => void {
    const { standings, classes, services } = this.#inputs
    const unsubscribers = [
      standings.subscribe(listener),
      classes.subscribe(listener),
      services.subscribe(listener),
      this.#outcomes.onChange(listener),
    ]
    return () => {
      for (const unsubscribe of unsubscribers) unsubscribe()
    }
  }

  *differing(now: Date): Iterable<WantedStatus> {
    const { standings, classes, services } = this.#inputs
    for (const facts of classes.values()) {
      const body = isOurs(facts) ? classStatus(facts, now) : undefined
      if (body === undefined) continue
      const { name, seen } = facts
      yield { status: { kind: 'GatewayClass', namespace: '', name, seen }, body }
    }
    for (const key of standings.keys()) {
      const standing = standings.get(key)
      if (standing === undefined) continue
      const body = gatewayStatus(standing, this.#outcomes.flawOf(key), now)
      if (body === undefined) continue
      const { namespace, name, seen } = standing.gateway
      yield { status: { kind: 'Gateway', namespace, name, seen }, body }
    }
    for (const { service, binding } of services.values()) {
      const conditions = boundConditions(service, binding, now)
      if (conditions !== undefined)
        yield { status: { kind: 'Service', ...service }, body: { conditions } }
    }
  }
}

function isBoundCondition(condition: object): boolean {
  return (condition as { readonly type?: unknown }).type === WAYPOINT_BOUND
}

function classStatus({ seen }: GatewayClassFacts, now: Date): object | undefined {
  const accepted: Verdict = {
    type: 'Accepted',
    status: 'True',
    reason: 'Accepted',
    message: 'its Gateways are waypoints of Ambit',
  }
  const isAccepted = ({ type }: { readonly type?: unknown }): boolean => type === 'Accepted'
  const at = { generation: seen.generation, now }
  const conditions = mergedConditions(seen.conditions, isAccepted, [accepted], at)
  return conditions && { conditions }
}

/** The conditions of a Service; none of ours when it asks for no waypoint. */
function boundConditions(
  { seen }: Pick<ServiceFacts, 'seen'>,
  binding: Binding | undefined,
  now: Date,
): readonly object[] | undefined {
  const verdict: Verdict | undefined = binding && {
    type: WAYPOINT_BOUND,
    status: binding.reason === 'WaypointAccepted' ? 'True' : 'False',
    reason: binding.reason,
    message: binding.message,
  }
  return mergedConditions(seen.conditions, isBoundCondition, verdict ? [verdict] : [], {
    generation: seen.generation,
    now,
  })
}
