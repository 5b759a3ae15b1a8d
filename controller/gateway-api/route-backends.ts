// SPDX-License-Identifier: Apache-2.0
// Finds the Services that a route sends requests to. What cannot be found, or may not be used, is not left out: its share of the requests is
// answered with an error, and the route's status says why. Pure.

import type { HttpBackendTarget } from '../../mesh/model/http-routes.ts'
import type { ServiceFacts } from '../core/service.ts'
import { serviceKeyOf } from '../core/service.ts'
import { grants, type ReferenceGrantFacts } from './reference-grant.ts'
import type { RouteFacts } from './route-object.ts'
import { type BackendRef, nameOfBackend } from './route-refs.ts'

/** As the Gateway API names them. */
export type RefReason = 'InvalidKind' | 'BackendNotFound' | 'RefNotPermitted'

/** Why a backend cannot be used. */
export interface RefProblem {
  readonly reason: RefReason
  readonly message: string
}

/** Asks for what the route's cluster has. */
export interface ClusterLookup {
  readonly service: (namespace: string, name: string) => ServiceFacts | undefined
  /** Of a namespace. */
  readonly grants: (namespace: string) => readonly ReferenceGrantFacts[]
}

export interface FoundBackend {
  readonly target: HttpBackendTarget
  readonly problem: RefProblem | undefined
}

/** Finds one backend of a route. */
export function findBackend(
  route: Pick<RouteFacts, 'kind' | 'namespace' | 'parents'>,
  ref: BackendRef,
  lookup: ClusterLookup,
): FoundBackend {
  const named = `${ref.field} names ${nameOfBackend(ref)}`
  if (ref.group !== '' || ref.kind !== 'Service')
    return lacking('InvalidKind', `${named}, and only Services can be backends`)
  // Before whether it is there, which is nobody's business who may not refer to it.
  if (!mayRefer(route, ref, lookup))
    return lacking(
      'RefNotPermitted',
      `${named}, and no ReferenceGrant there lets ${route.kind}s of namespace ${route.namespace} refer to it`,
    )
  const service = lookup.service(ref.namespace, ref.name)
  const [hostname] = service?.hosts ?? []
  if (service === undefined || hostname === undefined)
    return lacking('BackendNotFound', `${named}, which is not there or is a mere name`)
  const { port } = ref
  if (port === undefined)
    return lacking('BackendNotFound', `${named} without saying which of its ports`)
  if (!service.ports.some(({ servicePort }) => servicePort === port))
    return lacking('BackendNotFound', `${named}, which has no TCP port ${port}`)
  return {
    target: { kind: 'service', service: serviceKeyOf(service.namespace, hostname), port },
    problem: undefined,
  }
}

/** Across namespaces by a grant only, but to its own parents: who asked for that Service gets no other. */
function mayRefer(
  route: Pick<RouteFacts, 'kind' | 'namespace' | 'parents'>,
  ref: BackendRef,
  lookup: ClusterLookup,
): boolean {
  if (ref.namespace === route.namespace) return true
  const isParent = route.parents.some(
    ({ namespace, name }) => namespace === ref.namespace && name === ref.name,
  )
  return isParent || lookup.grants(ref.namespace).some((grant) => grants(grant, route, ref))
}

function lacking(reason: RefReason, message: string): FoundBackend {
  return { target: { kind: 'unresolved', reason: message }, problem: { reason, message } }
}
