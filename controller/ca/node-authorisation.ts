// SPDX-License-Identifier: Apache-2.0
// Who may have which identity. A node's agent gets the identities of pods that run on its node and
// no others, so that a stolen node gives away that node and not the mesh. Anybody else gets their own.

import type { SpiffeId } from '../../mesh/model/types.ts'
import { parseSpiffeId, spiffeId } from '../../mesh/identity/spiffe.ts'
import { PODS } from '../../mesh/kube/index.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import { excerpt } from '../../mesh/telemetry/excerpt.ts'
import { boundPod, LIVE_READ_DEADLINE_MS, type PodSource } from '../auth/bound-pod.ts'
import { type Caller, type Refusal, callerName } from '../auth/caller.ts'
import { isMeshable, scheduledPod } from '../auth/pod-index.ts'

export interface AuthorisationContext extends PodSource {
  readonly trustDomain: string
  /** `namespace/service-account` of those who may ask for their node's pods. */
  readonly trustedNodeAccounts: ReadonlySet<string>
}

/** Decides whom the certificate will name. `requested` is the impersonated identity, when one was given. */
export async function authoriseIdentity(
  context: AuthorisationContext,
  caller: Caller,
  requested: string | undefined,
): Promise<Result<SpiffeId, Refusal>> {
  const own = spiffeId({ trustDomain: context.trustDomain, ...caller })
  if (requested === undefined || requested === own) return ok(own)
  const wanted = parseSpiffeId(requested)
  if (wanted === undefined)
    return err({
      kind: 'invalid',
      reason: `the requested identity ${JSON.stringify(excerpt(requested))} is not a SPIFFE ID of the mesh's form`,
    })
  if (!context.trustedNodeAccounts.has(callerName(caller)))
    return denied(`${callerName(caller)} may not ask for the identity of others`)
  if (wanted.trustDomain !== context.trustDomain)
    return denied(`${wanted.id} is not of the trust domain ${context.trustDomain}`)
  const pod = await boundPod(context, caller)
  if (!pod.ok) return pod
  const { node } = pod.value
  const runs = await runsOnNode(context, node, wanted.namespace, wanted.serviceAccount)
  if (!runs.ok) return runs
  return runs.value
    ? ok(wanted.id)
    : denied(`no pod with the identity ${wanted.id} runs on node ${node}`)
}

/** The index first; then the API server itself, because the CNI asks before any watch has told of the pod. */
async function runsOnNode(
  context: AuthorisationContext,
  nodeName: string,
  namespace: string,
  serviceAccount: string,
): Promise<Result<boolean, Refusal>> {
  if (context.pods.runsOn(nodeName, namespace, serviceAccount)) return ok(true)
  const live = await context.api.list(PODS, {
    namespace,
    fieldSelector: `spec.nodeName=${nodeName}`,
    deadlineMs: LIVE_READ_DEADLINE_MS,
  })
  if (!live.ok) return err({ kind: 'unavailable', reason: live.error.message })
  return ok(
    live.value.items
      .map(scheduledPod)
      .some(
        (pod) =>
          pod !== undefined &&
          isMeshable(pod) &&
          pod.node === nodeName &&
          pod.template.serviceAccount === serviceAccount,
      ),
  )
}

function denied(reason: string): Result<never, Refusal> {
  return err({ kind: 'denied', reason })
}
