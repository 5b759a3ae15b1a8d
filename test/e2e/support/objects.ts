// SPDX-License-Identifier: Apache-2.0
// What the lab's API server holds, asked by the test's own process: kubectl takes a tenth of a second of a core each time, and
// who waits asks often.

import type { Lab } from '../../../lab/cluster/index.ts'
import {
  EVENTS,
  type KubeObject,
  type KubeResource,
  type Pod,
  PODS,
} from '../../../mesh/kube/index.ts'

/** The object `NAMESPACE/NAME`; throws when there is none. */
export async function objectOf<T extends KubeObject>(
  lab: Lab,
  resource: KubeResource<T>,
  key: string,
): Promise<T> {
  const [namespace = '', name = ''] = key.split('/')
  const found = await lab.api.get(resource, { namespace, name })
  if (!found.ok) throw new Error(found.error.message)
  return found.value
}

/** The objects of a namespace, or those of them with a label. */
export async function objectsIn<T extends KubeObject>(
  lab: Lab,
  resource: KubeResource<T>,
  namespace: string,
  labelSelector?: string,
): Promise<readonly T[]> {
  const found = await lab.api.list(resource, {
    namespace,
    ...(labelSelector === undefined ? {} : { labelSelector }),
  })
  if (!found.ok) throw new Error(found.error.message)
  return found.value.items
}

/** What the events that are concerned say, one after another; empty when there are none. */
export async function eventsIn(
  lab: Lab,
  namespace: string,
  concerned: { readonly object?: string; readonly reason?: string },
): Promise<string> {
  const { object, reason } = concerned
  return (await objectsIn(lab, EVENTS, namespace))
    .filter((event) => object === undefined || event.involvedObject.name === object)
    .filter((event) => reason === undefined || event.reason === reason)
    .map((event) => event.message ?? '')
    .join(' ')
}

/** Whether an agent annotated the pod as captured. */
export function isCaptured(pod: Pod): boolean {
  return pod.metadata?.annotations?.['ambient.istio.io/redirection'] === 'enabled'
}

/** Whether the kubelet says that the pod `NAMESPACE/NAME` is ready; for `waitFor`. */
export async function isReady(lab: Lab, pod: string): Promise<true | undefined> {
  const { status } = await objectOf(lab, PODS, pod)
  const ready = status?.conditions?.find((condition) => condition.type === 'Ready')
  return ready?.status === 'True' ? true : undefined
}
