// SPDX-License-Identifier: Apache-2.0
// Whether a pod is a waypoint's. A label says only what a pod would like to be, and whoever writes pods can write it: the Gateway must be
// there, be of a class of ours, stand in the pod's own namespace, and the pod must have the identity that was made for that Gateway.

import { GATEWAY_NAME_LABEL } from '../../mesh/model/names.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import type { PodFacts } from '../core/pod.ts'
import { callerName } from './caller.ts'

/** The waypoints of the mesh, as far as it matters here. */
export interface WaypointAccounts {
  /** The service account of the pods of this Gateway; undefined when it is not there or no waypoint of ours. */
  accountOf(namespace: string, gateway: string): string | undefined
}

/** The name of the waypoint that the pod belongs to, or why it belongs to none. */
export function waypointOf(
  { name, template }: Pick<PodFacts, 'name' | 'template'>,
  waypoints: WaypointAccounts,
): Result<string, string> {
  const { namespace, labels } = template
  const gateway = labels.get(GATEWAY_NAME_LABEL)
  if (gateway === undefined || gateway === '')
    return err(`${callerName(template)} is no component of the mesh and may not read its state`)
  const account = waypoints.accountOf(namespace, gateway)
  if (account === undefined)
    return err(
      `the pod ${namespace}/${name} says that it is of Gateway ${namespace}/${gateway}, which is not there or is no waypoint of this mesh`,
    )
  if (account !== template.serviceAccount)
    return err(
      `the pod ${namespace}/${name} runs as ${callerName(template)}, and those of Gateway ${namespace}/${gateway} as ${namespace}/${account}`,
    )
  return ok(gateway)
}
