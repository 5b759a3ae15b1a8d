// SPDX-License-Identifier: Apache-2.0
// Who may have which identity. A node's agent gets the identities of pods that run on its node and
// no others, so that a stolen node gives away that node and not the mesh. Anybody else gets their own.

import type { SpiffeId } from '../../mesh/model/types.ts'
import { parseSpiffeId, spiffeId } from '../../mesh/identity/spiffe.ts'
import { type KubeApi, type Pod, PODS } from '../../mesh/kube/index.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import { type Caller, type Refusal, callerName } from '../auth/caller.ts'
import { type PodFacts, readPod } from '../core/pod.ts'
import { isMeshable, isScheduled, type PodIndex } from './pod-index.ts'

export interface AuthorisationContext {
  readonly api: KubeApi
  readonly pods: PodIndex
  readonly trustDomain: string
  /** `namespace/service-account` of those who may ask for their node's pods. */
  readonly trustedNodeAccounts: ReadonlySet<string>
}

/** A live read must fit well inside the ten seconds a client gives a request. */
const LIVE_READ_DEADLINE_MS = 4_000

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
      reason: `the requested identity ${JSON.stringify(requested.slice(0, 300))} is not a SPIFFE ID of the mesh's form`,
    })
  if (!context.trustedNodeAccounts.has(callerName(caller)))
    return denied(`${callerName(caller)} may not ask for the identity of others`)
  if (wanted.trustDomain !== context.trustDomain)
    return denied(`${wanted.id} is not of the trust domain ${context.trustDomain}`)
  const node = await nodeOf(context, caller)
  if (!node.ok) return node
  const runs = await runsOnNode(context, node.value, wanted.namespace, wanted.serviceAccount)
  if (!runs.ok) return runs
  return runs.value
    ? ok(wanted.id)
    : denied(`no pod with the identity ${wanted.id} runs on node ${node.value}`)
}

/** The node of the pod that the caller's token is bound to. */
async function nodeOf(
  context: AuthorisationContext,
  caller: Caller,
): Promise<Result<string, Refusal>> {
  const { pod } = caller
  if (pod === undefined) return denied('the token of a node account must be bound to a pod')
  const known = context.pods.byUid(pod.uid)
  const found = known ?? (await livePod(context, caller.namespace, pod.name))
  if (found !== undefined && 'kind' in found) return err(found)
  if (found === undefined || found.kubernetesUid !== pod.uid)
    return denied(`the caller's pod ${caller.namespace}/${pod.name} does not exist any more`)
  if (
    found.name !== pod.name ||
    found.namespace !== caller.namespace ||
    found.serviceAccount !== caller.serviceAccount
  )
    return denied(
      `the caller's pod ${found.namespace}/${found.name} runs as ${callerName(found)}, not as ${callerName(caller)}`,
    )
  return ok(found.node)
}

async function livePod(
  context: AuthorisationContext,
  namespace: string,
  name: string,
): Promise<PodFacts | Refusal | undefined> {
  const live = await context.api.get(
    PODS,
    { namespace, name },
    { deadlineMs: LIVE_READ_DEADLINE_MS },
  )
  if (live.ok) return scheduledPod(live.value)
  if (live.error.kind === 'notFound') return undefined
  return { kind: 'unavailable', reason: live.error.message }
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
          pod.serviceAccount === serviceAccount,
      ),
  )
}

function scheduledPod(pod: Pod): PodFacts | undefined {
  // The index asks the same questions of the pods of the watch; of which cluster they are does not matter here.
  const { facts } = readPod(pod, { cluster: '', clusterDomain: '' })
  return facts !== undefined && isScheduled(facts) ? facts : undefined
}

function denied(reason: string): Result<never, Refusal> {
  return err({ kind: 'denied', reason })
}
