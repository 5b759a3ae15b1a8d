// SPDX-License-Identifier: Apache-2.0
// The mesh as the agents of the two ends have it, made again from their dumps: what the data plane's own functions are asked about.

import { ALL_AT_ONCE } from '../../agent/proxy/decision/policy-compiler.ts'
import { type LastSaid, PoliciesOfPods } from '../../agent/proxy/decision/pod-policies.ts'
import type { MissingPolicies } from '../../agent/proxy/decision/policy-judge.ts'
import { LocalPods, type LocalPod } from '../../agent/proxy/local-pod.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import { parseIpAddress } from '../../mesh/model/address.ts'
import type { PodUid, SpiffeId, WorkloadUid } from '../../mesh/model/types.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import type { ConfigDump, DumpedIdentity, DumpedStanding } from '../dump/config-dump.ts'
import { copiedMesh } from './copied-mesh.ts'

/** One agent. */
export interface AgentView {
  readonly node: string
  readonly mesh: MeshState
  readonly pods: readonly LocalPod[]
  /** Those that a call inside the node finds. */
  readonly localPods: LocalPods
  /** What policies concern each of them. */
  readonly policies: PoliciesOfPods
  readonly missingPolicies: MissingPolicies
  readonly standings: readonly DumpedStanding[]
  readonly certificates: readonly DumpedIdentity[]
  readonly clusterDomain: string
}

/** Makes it of a dump with resources; the error says what the dump lacks. */
export function agentView(node: string, dump: ConfigDump): Result<AgentView, string> {
  const { resources } = dump
  if (resources === undefined)
    return err(
      'the dump has no resources: take it by "ambit config-dump", or of config_dump?resources',
    )
  const setting = (name: string): string | undefined => {
    const value = dump.config?.[name]
    return typeof value === 'string' ? value : undefined
  }
  const copy = copiedMesh(resources, { network: setting('network') ?? '' })
  if (!copy.ok) return copy
  const mesh = copy.value
  const pods = Object.entries(dump.workloadState).map(([uid, { info }]) => localPod(uid, info))
  const localPods = new LocalPods()
  if (setting('sameNode') !== 'encrypt') for (const pod of pods) localPods.add(pod)
  const policies = new PoliciesOfPods(mesh, undefined, ALL_AT_ONCE)
  for (const pod of pods) policies.follow(pod, lastSaid(pod, mesh))
  return ok({
    node,
    mesh,
    pods,
    localPods,
    policies,
    missingPolicies: setting('missingPolicies') === 'serve' ? 'serve' : 'refuse',
    standings: dump.capture ?? [],
    certificates: dump.certificates,
    clusterDomain: setting('clusterDomain') ?? 'cluster.local',
  })
}

/** What the agent heard last of a pod that discovery has dropped, so far as its state remembers it. */
function lastSaid({ workloadUid, addresses }: LocalPod, mesh: MeshState): LastSaid | undefined {
  for (const address of addresses) {
    const workload = mesh.formerWorkload(address)
    if (workload?.uid === workloadUid) return { workload, unreadable: undefined }
  }
  return undefined
}

function localPod(uid: string, info: ConfigDump['workloadState'][string]['info']): LocalPod {
  const { name, namespace, serviceAccount, identity = '', workloadUid = '', addresses = [] } = info
  return {
    uid: uid as PodUid,
    name,
    namespace,
    serviceAccount,
    // As the agent itself said.
    identity: identity as SpiffeId,
    workloadUid: workloadUid as WorkloadUid,
    addresses: addresses.flatMap((text) => parseIpAddress(text) ?? []),
    // Nothing is opened here.
    netnsFd: -1,
    seat: 0,
  }
}
