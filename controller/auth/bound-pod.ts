// SPDX-License-Identifier: Apache-2.0
// The pod behind a token. A component of the mesh is believed because of the pod that it runs in, not because somebody
// holds a token of its account.

import { isMissing, type KubeApi, PODS } from '../../mesh/kube/index.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import { type PodIndex, scheduledPod } from './pod-index.ts'
import type { PodFacts } from '../core/pod.ts'
import { type Caller, callerName, type Refusal } from './caller.ts'

/** Where pods are known from. */
export interface PodSource {
  readonly api: KubeApi
  readonly pods: PodIndex
}

/** A live read must fit well inside the ten seconds a client gives a request. */
export const LIVE_READ_DEADLINE_MS = 4_000

/** The pod that the caller's token is bound to: it lives, and runs as the caller's account. */
export async function boundPod(
  source: PodSource,
  caller: Caller,
): Promise<Result<PodFacts, Refusal>> {
  const { pod } = caller
  if (pod === undefined)
    return denied(
      `the token of ${callerName(caller)} must be bound to a pod, as those are that the kubelet projects`,
    )
  const known = source.pods.find(caller.namespace, pod.name, pod.uid)
  const found =
    known === undefined ? await livePod(source.api, caller.namespace, pod.name) : ok(known)
  if (!found.ok) return found
  if (found.value?.kubernetesUid !== pod.uid)
    return denied(`the caller's pod ${caller.namespace}/${pod.name} does not exist any more`)
  // One that was evicted or has run to its end keeps its token until somebody deletes it.
  if (found.value.hasEnded)
    return denied(`the caller's pod ${caller.namespace}/${pod.name} has ended`)
  const { name, template } = found.value
  const { namespace, serviceAccount } = template
  if (
    name !== pod.name ||
    namespace !== caller.namespace ||
    serviceAccount !== caller.serviceAccount
  )
    return denied(
      `the caller's pod ${namespace}/${name} runs as ${callerName(template)}, not as ${callerName(caller)}`,
    )
  return ok(found.value)
}

/** The index may not have it yet; the API server has. */
async function livePod(
  api: KubeApi,
  namespace: string,
  name: string,
): Promise<Result<PodFacts | undefined, Refusal>> {
  const live = await api.get(PODS, { namespace, name }, { deadlineMs: LIVE_READ_DEADLINE_MS })
  if (live.ok) return ok(scheduledPod(live.value))
  if (isMissing(live.error)) return ok(undefined)
  return err({ kind: 'unavailable', reason: live.error.message })
}

function denied(reason: string): Result<never, Refusal> {
  return err({ kind: 'denied', reason })
}
