// SPDX-License-Identifier: Apache-2.0
// The Gateways of a cluster that are waypoints of ours: by their class, whose it is.

import { AmbitError } from '../../mesh/errors.ts'
import {
  GATEWAY_CLASSES,
  GATEWAYS,
  type KubeApi,
  type KubeFailure,
  type PolicyResource,
} from '../../mesh/kube/index.ts'
import { kubeError } from '../cluster/kube-reads.ts'
import { WAYPOINT_CONTROLLER } from '../../mesh/model/names.ts'
import { WAYPOINT_CLASS } from './waypoint-gateway.ts'

/** Those of a namespace, or of all. Throws AMB_KUBE_API. */
export async function readWaypoints(
  api: KubeApi,
  namespace: string | undefined,
): Promise<readonly PolicyResource[]> {
  const [classes, gateways] = await Promise.all([
    api.list(GATEWAY_CLASSES),
    api.list(GATEWAYS, namespace === undefined ? {} : { namespace }),
  ])
  if (!classes.ok) throw gatewayApiError(classes.error)
  if (!gateways.ok) throw gatewayApiError(gateways.error)
  const ours = new Set(
    classes.value.items
      .filter(({ spec }) => specOf(spec)['controllerName'] === WAYPOINT_CONTROLLER)
      .map(({ metadata }) => metadata?.name),
  )
  // Before the controller has made its class, Gateways may ask for it already.
  ours.add(WAYPOINT_CLASS)
  return gateways.value.items.filter(({ spec }) => {
    const { gatewayClassName } = specOf(spec)
    return typeof gatewayClassName === 'string' && ours.has(gatewayClassName)
  })
}

/** Refuses to make a waypoint of somebody else's Gateway. Throws AMB_WAYPOINT_TAKEN, AMB_KUBE_API. */
export async function requireOurs(
  api: KubeApi,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): Promise<void> {
  const found = await api.get(GATEWAYS, { namespace, name })
  if (!found.ok) {
    if (found.error.kind === 'notFound' && !isKindAbsent(found.error)) return
    throw gatewayApiError(found.error)
  }
  const waypoints = await readWaypoints(api, namespace)
  if (waypoints.some(({ metadata }) => metadata?.name === name)) return
  throw new AmbitError(
    'AMB_WAYPOINT_TAKEN',
    `Cannot apply waypoint ${namespace}/${name}: the Gateway of this name is of class "${String(specOf(found.value.spec)['gatewayClassName'])}", which is none of our waypoints`,
  )
}

/** The error of a call of the Gateway API. */
export function gatewayApiError(failure: KubeFailure): AmbitError {
  return isKindAbsent(failure)
    ? new AmbitError(
        'AMB_GATEWAY_API',
        'Cannot look for waypoints: the cluster has not the kinds of the Gateway API',
      )
    : kubeError(failure)
}

/** A server that does not know a kind answers for its whole path, and not of an object. */
function isKindAbsent({ kind, message }: KubeFailure): boolean {
  return kind === 'notFound' && message.includes('the requested resource')
}

function specOf(spec: unknown): Readonly<Record<string, unknown>> {
  return typeof spec === 'object' && spec !== null ? { ...spec } : {}
}
