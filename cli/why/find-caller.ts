// SPDX-License-Identifier: Apache-2.0
// The pod that calls, and the agent of its node. Pure.

import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import { workloadIdentity } from '../../mesh/identity/workload-identity.ts'
import type { PodUid, Workload } from '../../mesh/model/types.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import type { SourceText } from './call.ts'
import type { Caller } from './call-world.ts'
import type { AgentView } from './world.ts'

/** Finds it among the pods of all nodes; of several of one owner the first by name. */
export function findCaller(
  views: readonly AgentView[],
  source: SourceText,
): Result<{ readonly view: AgentView; readonly caller: Caller }, string> {
  const { namespace, name, isOwner } = source
  for (const view of views) {
    const names = isOwner ? podsOfOwner(view, namespace, name) : [name]
    for (const podName of names) {
      const standing = view.standings.find(
        (each) => each.namespace === namespace && each.name === podName,
      )
      if (standing === undefined) continue
      const pod =
        view.pods.find(({ uid }) => uid === standing.uid) ??
        outsider(view, standing.uid, namespace, podName)
      if (pod !== undefined) return ok({ view, caller: { pod, standing } })
    }
  }
  const what = isOwner ? `no pod of ${name}` : `no pod ${name}`
  return err(`${what} in namespace ${namespace} is known to an agent that was asked`)
}

function podsOfOwner({ mesh }: AgentView, namespace: string, owner: string): readonly string[] {
  return [...mesh.workloads()]
    .filter((each) => each.namespace === namespace && each.workloadName === owner)
    .map(({ name }) => name)
    .sort()
}

/** A pod that no agent serves, as discovery knows it. */
function outsider(
  { mesh }: AgentView,
  uid: string,
  namespace: string,
  name: string,
): LocalPod | undefined {
  const workload = [...mesh.workloads()].find(
    (each: Workload) => each.namespace === namespace && each.name === name,
  )
  if (workload === undefined) return undefined
  const { serviceAccount, addresses, uid: workloadUid } = workload
  return {
    uid: uid as PodUid,
    namespace,
    name,
    serviceAccount,
    identity: workloadIdentity(workload),
    workloadUid,
    addresses,
    netnsFd: -1,
    seat: 0,
  }
}
