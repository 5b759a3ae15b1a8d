// SPDX-License-Identifier: Apache-2.0
// How far the mesh's own pods are, and which of them hangs for what reason. The judgement is pure.

import {
  chainProblem,
  defineResource,
  type KubeApi,
  type KubeObject,
  NODES,
  type Pod,
  PODS,
} from '../../mesh/kube/index.ts'
import { isRecord } from '../../daemonset/render/functions.ts'
import type { ErrorCode } from '../../mesh/errors.ts'
import { parseJson } from '../../mesh/json.ts'
import { CHAINED_CONDITION } from '../../mesh/model/names.ts'
import { kubeError } from '../cluster/kube-reads.ts'

export interface WorkloadProgress {
  /** `DaemonSet ambit-agent`. */
  readonly title: string
  readonly ready: number
  readonly wanted: number
  /** How many of its pods are of its last change and ready, as far as its status tells. */
  readonly current: number
  /** Its pods are those of its last change. */
  readonly isCurrent: boolean
  /** All of them are, and ready, but for agents of nodes that are off. */
  readonly isReady: boolean
}

export interface MeshProgress {
  readonly workloads: readonly WorkloadProgress[]
  /** What each pod that is not ready says of itself. */
  readonly hanging: readonly string[]
  /** Of those, what no waiting cures: the agent found that its node lacks something, and has ended. */
  readonly unfit: readonly string[]
  /** What agents that are ready say of CNI on their nodes: where new pods start without the plugin, and why. */
  readonly unchained: readonly string[]
  /** How many agents that are ready have said nothing of CNI yet. */
  readonly untold: number
  /** Nodes that are off, with an agent that is not ready: it comes when the node does. Known once nothing else is missing. */
  readonly off: readonly string[]
  readonly isReady: boolean
}

type Workload = KubeObject & {
  readonly spec?: { readonly replicas?: number }
  readonly status?: Readonly<Record<string, number | undefined>>
}

const DAEMON_SET = defineResource<Workload>('apps', 'v1', 'daemonsets', 'DaemonSet')
const DEPLOYMENT = defineResource<Workload>('apps', 'v1', 'deployments', 'Deployment')
/** What an agent says of its node before it touches it. */
const UNFIT_NODE: ReadonlySet<unknown> = new Set<ErrorCode>([
  'AMB_KERNEL_FEATURE',
  'AMB_CGROUP2_MISSING',
  'AMB_BPFFS_MISSING',
  'AMB_CGROUP_OUTSIDE',
  'AMB_LIBBPF_MISSING',
  'AMB_CNI_INSTALL',
])
const QUOTED_WORDS = 400
/** Where more are off, or agents are still starting, each is not asked after at every look. */
const MOST_NODES_OFF = 10
/** Of a workload that is ready because it wants no pods. */
export const NOWHERE = 'it is to run nowhere: no node fits its nodeSelector, or it is scaled to 0'
const SELECTOR = 'app in (ambit-agent,ambit-controller)'

/** Reads it. Throws AMB_KUBE_API; a workload that is not there has no pods and wants one. */
export async function meshProgress(api: KubeApi, namespace: string): Promise<MeshProgress> {
  const [set, deployment, pods] = await Promise.all([
    api.get(DAEMON_SET, { namespace, name: 'ambit-agent' }),
    api.get(DEPLOYMENT, { namespace, name: 'ambit-controller' }),
    api.list(PODS, { namespace, labelSelector: SELECTOR }),
  ])
  if (!pods.ok) throw kubeError(pods.error)
  for (const read of [set, deployment])
    if (!read.ok && read.error.kind !== 'notFound') throw kubeError(read.error)
  const off = await nodesOff(api, pods.value.items)
  const workloads = [
    progressOf('DaemonSet ambit-agent', set.ok ? set.value : undefined, {
      ready: 'numberReady',
      updated: 'updatedNumberScheduled',
      wanted: ({ status }) => status?.['desiredNumberScheduled'] ?? 0,
      excused: off.length,
    }),
    progressOf('Deployment ambit-controller', deployment.ok ? deployment.value : undefined, {
      ready: 'readyReplicas',
      updated: 'updatedReplicas',
      wanted: ({ spec }) => spec?.replicas ?? 1,
    }),
  ]
  const agents = pods.value.items.filter(
    (pod) => pod.metadata?.labels?.['app'] === 'ambit-agent' && whyNotReady(pod) === undefined,
  )
  const isReady = workloads.every((workload) => workload.isReady)
  return {
    workloads,
    off,
    unchained: agents.flatMap(({ spec, status }) => {
      const problem = chainProblem(status?.conditions)
      return problem === undefined ? [] : [`node ${spec?.nodeName ?? ''}: ${problem}`]
    }),
    untold: agents.filter(
      ({ status }) => status?.conditions?.every(({ type }) => type !== CHAINED_CONDITION) !== false,
    ).length,
    hanging: pods.value.items
      // Once others are in their places, those that end are missed by nobody: an agent of before serves its connections until they are over.
      .filter(({ metadata }) => !isReady || metadata?.deletionTimestamp === undefined)
      .flatMap((pod) => whyNotReady(pod) ?? []),
    unfit: pods.value.items
      .filter((pod) => UNFIT_NODE.has(lastWords(pod)?.code))
      .flatMap((pod) => whyNotReady(pod) ?? []),
    isReady,
  }
}

/** Nodes whose agents are not ready for that they are off themselves: no installation is to end for want of those. */
async function nodesOff(api: KubeApi, pods: readonly Pod[]): Promise<readonly string[]> {
  const names = new Set(
    pods
      .filter((pod) => pod.metadata?.labels?.['app'] === 'ambit-agent')
      .filter((pod) => whyNotReady(pod) !== undefined)
      .flatMap(({ spec }) => spec?.nodeName ?? []),
  )
  if (names.size > MOST_NODES_OFF) return []
  const off = await Promise.all(
    [...names].map(async (name) => {
      const node = await api.get(NODES, { name })
      if (!node.ok && node.error.kind !== 'notFound') throw kubeError(node.error)
      const ready = node.ok && node.value.status?.conditions?.find(({ type }) => type === 'Ready')
      return ready === undefined || ready === false || ready.status === 'True' ? [] : [name]
    }),
  )
  return off.flat()
}

function progressOf(
  title: string,
  workload: Workload | undefined,
  fields: {
    readonly ready: string
    readonly updated: string
    readonly wanted: (workload: Workload) => number
    /** How many are not waited for. */
    readonly excused?: number
  },
): WorkloadProgress {
  if (workload === undefined)
    return { title, ready: 0, wanted: 1, current: 0, isCurrent: false, isReady: false }
  const { status = {}, metadata } = workload
  const wanted = fields.wanted(workload)
  const ready = status[fields.ready] ?? 0
  // Before the change was looked at, those are the pods of the change before.
  const isSeen = (status['observedGeneration'] ?? 0) >= (metadata?.generation ?? 0)
  const updated = isSeen ? (status[fields.updated] ?? 0) : 0
  return {
    title,
    ready,
    wanted,
    current: Math.min(ready, updated),
    isCurrent: isSeen && updated >= wanted,
    isReady: isSeen && Math.min(ready, updated) >= wanted - (fields.excused ?? 0),
  }
}

/** One sentence on a pod that is not ready; undefined for one that is. */
export function whyNotReady(pod: Pod): string | undefined {
  const { conditions = [], containerStatuses = [] } = pod.status ?? {}
  const condition = (type: string) => conditions.find((each) => each.type === type)
  if (condition('Ready')?.status === 'True') return undefined
  const where = pod.spec?.nodeName === undefined ? '' : ` on ${pod.spec.nodeName}`
  return `pod ${pod.metadata?.name ?? ''}${where}: ${reasonOf()}`

  function reasonOf(): string {
    if (pod.metadata?.deletionTimestamp !== undefined) return 'is ending'
    const scheduled = condition('PodScheduled')
    if (scheduled?.status === 'False')
      return `no node takes it: ${scheduled.message ?? scheduled.reason ?? ''}`
    for (const { state, lastState, restartCount } of containerStatuses) {
      const { reason, message } = state?.waiting ?? {}
      const words = lastWords(pod)
      if (words?.code !== undefined) return `${words.text} [${words.code}]`
      const { exitCode } = lastState?.terminated ?? {}
      const said = words === undefined ? '' : `: ${words.text}`
      const before =
        exitCode === undefined
          ? ''
          : `, exit code ${exitCode} before, ${restartCount} restarts${said}`
      if (reason !== undefined)
        return `${reason}${message === undefined ? '' : `: ${message}`}${before}`
      if (state?.running !== undefined)
        return `runs, and is not ready${before}: kubectl logs -n ${pod.metadata?.namespace ?? ''} ${pod.metadata?.name ?? ''}`
    }
    return pod.status?.message ?? 'its containers are not started yet'
  }
}

interface LastWords {
  readonly text: string
  /** One of ours. */
  readonly code: string | undefined
}

/** The last line of the log of a container that has failed, which the kubelet quotes in the pod's status. */
function lastWords({ status }: Pod): LastWords | undefined {
  for (const { state, lastState } of status?.containerStatuses ?? []) {
    const { message = '' } = state?.terminated ?? lastState?.terminated ?? {}
    const line = message.trim().split('\n').at(-1) ?? ''
    if (line === '') continue
    const parsed = parseJson(line)
    const { msg, code } = (parsed.ok && isRecord(parsed.value) ? parsed.value : {}) as {
      readonly msg?: unknown
      readonly code?: unknown
    }
    return {
      text: (typeof msg === 'string' ? msg : line).slice(0, QUOTED_WORDS),
      code: typeof code === 'string' ? code : undefined,
    }
  }
  return undefined
}
