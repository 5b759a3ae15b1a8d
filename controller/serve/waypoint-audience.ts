// SPDX-License-Identifier: Apache-2.0
// Which waypoints may read which routes and policies: those that serve what these are about, and no others. A waypoint is reached by its
// namespace's clients and runs in its namespace: whoever breaks into one must not have the policies, the routes and the session keys of all.
//
// What a waypoint serves is what is bound to it, by the same addresses by which it decides what to let in, so that it has no less than
// it asks for when a call comes.

import { OrderedKeys } from '../../mesh/model/ordered-keys.ts'
import type { PolicyKey } from '../../mesh/model/policy.ts'
import { waypointsOf } from '../../mesh/model/service-waypoints.ts'
import type { GatewayAddress, MeshChange, ServiceKey, WorkloadUid } from '../../mesh/model/types.ts'
import type { PolicyTarget } from '../../mesh/model/waypoint-policy.ts'

/** `namespace/name` of the Gateway that a waypoint is a pod of. */
type GatewayName = string

/** Resources that others than before may see. */
interface Reconsidered {
  readonly policies: ReadonlySet<string>
  readonly routes: ReadonlySet<string>
}

interface Bound {
  readonly gateway: GatewayName
  readonly namespace: string
}

interface BoundService {
  readonly namespace: string
  readonly name: string
  /** One, and a canary beside it where there is one. */
  readonly gateways: readonly GatewayName[]
}

/** Knows what is bound to whom, and which resources are about it. */
export class WaypointAudience {
  readonly #services = new Map<ServiceKey, BoundService>()
  readonly #workloads = new Map<WorkloadUid, Bound>()
  /** How much of a namespace each waypoint serves, by both. */
  readonly #served = new Map<string, number>()
  /** The mesh services of a Kubernetes Service, by `namespace/name`: it has one for each host name. */
  readonly #keysOfService = new OrderedKeys<ServiceKey>()
  readonly #targets = new Map<string, readonly PolicyTarget[]>()
  readonly #policiesByTarget = new OrderedKeys<PolicyKey>()
  readonly #serviceOfRoutes = new Map<string, string>()
  readonly #routesByService = new OrderedKeys<string>()

  /** Takes changes in; gives what they mean for resources that may themselves be unchanged. */
  apply(changes: readonly MeshChange[]): Reconsidered {
    const policies = new Set<string>()
    const routes = new Set<string>()
    const isAbout = (target: PolicyTarget): void => {
      for (const key of this.#policiesByTarget.get(targetKey(target))) policies.add(key)
    }
    for (const change of changes)
      switch (change.kind) {
        case 'service': {
          const { key, namespace, name } = change.service
          const gateways = [...new Set(waypointsOf(change.service).flatMap(gatewayAt))]
          const bound = gateways.length === 0 ? undefined : { gateways, namespace, name }
          for (const { namespace: of, name: named } of this.#bindService(key, bound)) {
            isAbout({ kind: 'service', namespace: of, name: named })
            isAbout({ kind: 'namespace', namespace: of, name: '' })
            for (const each of this.#routesByService.get(key)) routes.add(each)
          }
          break
        }
        case 'serviceRemoved':
          for (const { namespace, name } of this.#bindService(change.key, undefined)) {
            isAbout({ kind: 'service', namespace, name })
            isAbout({ kind: 'namespace', namespace, name: '' })
            for (const each of this.#routesByService.get(change.key)) routes.add(each)
          }
          break
        case 'workload': {
          const { uid, namespace, waypoint } = change.workload
          const [gateway] = waypoint === undefined ? [] : gatewayAt(waypoint)
          const bound = gateway === undefined ? undefined : { gateway, namespace }
          for (const { namespace: of } of this.#bindWorkload(uid, bound))
            isAbout({ kind: 'namespace', namespace: of, name: '' })
          break
        }
        case 'workloadRemoved':
          for (const { namespace } of this.#bindWorkload(change.uid, undefined))
            isAbout({ kind: 'namespace', namespace, name: '' })
          break
        case 'waypointPolicy':
          this.#setTargets(change.policy.key, change.policy.targets)
          // Its targets may be others than before, and the policy the same but for them.
          policies.add(change.policy.key)
          break
        case 'waypointPolicyRemoved':
          this.#setTargets(change.key, undefined)
          break
        case 'httpRoutes':
          this.#setRoutes(change.routes.key, change.routes.service)
          break
        case 'httpRoutesRemoved':
          this.#setRoutes(change.key, undefined)
          break
        case 'workloadUnreadable':
        case 'node':
        case 'nodeRemoved':
        case 'policy':
        case 'policyRemoved':
        case 'policyUnreadable':
        case 'policyKnowledge':
        case 'networkPolicy':
        case 'networkPolicyRemoved':
        case 'networkPolicyUnreadable':
        case 'waypointPolicyUnreadable':
        case 'backendTls':
        case 'backendTlsRemoved':
          break
      }
    return { policies, routes }
  }

  /** Whether this waypoint judges any call by the policy. */
  seesPolicy(gateway: GatewayName, key: string): boolean {
    return (this.#targets.get(key) ?? []).some((target) => this.#concerns(target, gateway))
  }

  /** Whether the routes are of a Service that this waypoint serves. */
  seesRoutes(gateway: GatewayName, key: string): boolean {
    const service = this.#serviceOfRoutes.get(key)
    return service !== undefined && this.#serves(gateway, service as ServiceKey)
  }

  /** The same places at which a waypoint asks for policies (WaypointPolicyIndex.concerning()). */
  #concerns({ kind, namespace, name }: PolicyTarget, gateway: GatewayName): boolean {
    switch (kind) {
      case 'waypoint':
        return gateway === `${namespace}/${name}`
      case 'service':
        return this.#keysOfService
          .get(`${namespace}/${name}`)
          .some((key) => this.#serves(gateway, key))
      case 'namespace':
        return (
          gateway.startsWith(`${namespace}/`) || this.#served.has(servedKey({ gateway, namespace }))
        )
      case 'mesh':
        return true
    }
  }

  #serves(gateway: GatewayName, service: ServiceKey): boolean {
    return this.#services.get(service)?.gateways.includes(gateway) === true
  }

  /** Gives what it was and what it is, where these differ. */
  #bindService(key: ServiceKey, next: BoundService | undefined): readonly BoundService[] {
    const previous = this.#services.get(key)
    if (isSameService(previous, next)) return []
    if (previous !== undefined) {
      this.#keysOfService.remove(`${previous.namespace}/${previous.name}`, key)
      this.#countEach(previous, -1)
      this.#services.delete(key)
    }
    if (next !== undefined) {
      this.#keysOfService.add(`${next.namespace}/${next.name}`, key)
      this.#countEach(next, 1)
      this.#services.set(key, next)
    }
    return [previous, next].filter((each) => each !== undefined)
  }

  #bindWorkload(uid: WorkloadUid, next: Bound | undefined): readonly Bound[] {
    const previous = this.#workloads.get(uid)
    if (previous?.gateway === next?.gateway) return []
    if (previous !== undefined) this.#count(previous, -1)
    if (next !== undefined) this.#count(next, 1)
    if (next === undefined) this.#workloads.delete(uid)
    else this.#workloads.set(uid, next)
    return [previous, next].filter((each) => each !== undefined)
  }

  #countEach({ gateways, namespace }: BoundService, step: 1 | -1): void {
    for (const gateway of gateways) this.#count({ gateway, namespace }, step)
  }

  #count(bound: Bound, step: 1 | -1): void {
    const key = servedKey(bound)
    const count = (this.#served.get(key) ?? 0) + step
    if (count > 0) this.#served.set(key, count)
    else this.#served.delete(key)
  }

  #setTargets(key: PolicyKey, targets: readonly PolicyTarget[] | undefined): void {
    for (const target of this.#targets.get(key) ?? [])
      this.#policiesByTarget.remove(targetKey(target), key)
    if (targets === undefined) this.#targets.delete(key)
    else this.#targets.set(key, targets)
    for (const target of targets ?? []) this.#policiesByTarget.add(targetKey(target), key)
  }

  #setRoutes(key: string, service: string | undefined): void {
    const previous = this.#serviceOfRoutes.get(key)
    if (previous !== undefined) this.#routesByService.remove(previous, key)
    if (service === undefined) this.#serviceOfRoutes.delete(key)
    else {
      this.#serviceOfRoutes.set(key, service)
      this.#routesByService.add(service, key)
    }
  }
}

/** The waypoint at an address, which the controller writes as the host name of its Service. None for any other: what nobody can name nobody serves. */
function gatewayAt({ destination }: GatewayAddress): readonly GatewayName[] {
  if (destination.kind !== 'hostname') return []
  const { namespace, hostname } = destination
  const end = hostname.indexOf(`.${namespace}.svc.`)
  return end > 0 ? [`${namespace}/${hostname.slice(0, end)}`] : []
}

function isSameService(one: BoundService | undefined, other: BoundService | undefined): boolean {
  return (
    one?.gateways.join() === other?.gateways.join() &&
    one?.namespace === other?.namespace &&
    one?.name === other?.name
  )
}

function servedKey({ gateway, namespace }: Bound): string {
  return `${gateway} ${namespace}`
}

function targetKey({ kind, namespace, name }: PolicyTarget): string {
  return `${kind} ${namespace}/${name}`
}
