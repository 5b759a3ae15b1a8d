// SPDX-License-Identifier: Apache-2.0
// Waiting with a deadline and an explanation: what was waited for and what was seen last.

import { setTimeout as sleep } from 'node:timers/promises'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import type { KubeApi } from '../../mesh/kube/api.ts'
import { type KubeObject, objectKey, type Pod, PODS } from '../../mesh/kube/resources.ts'

const POLL_MS = 50
const DEFAULT_DEADLINE_MS = 60_000

/** Calls `check` until it gives something; a rejection counts as "not yet" and is quoted at the deadline. */
export async function waitFor<T>(
  what: string,
  check: () => Promise<T | undefined> | T | undefined,
  deadlineMs: number = DEFAULT_DEADLINE_MS,
): Promise<T> {
  const deadline = Date.now() + deadlineMs
  let last = ''
  for (;;) {
    try {
      const found = await check()
      if (found !== undefined) return found
    } catch (error) {
      last = `; last: ${errorMessage(error)}`
    }
    if (Date.now() > deadline) throw new Error(`Waited ${deadlineMs} ms for ${what}${last}`)
    await sleep(POLL_MS)
  }
}

/** Pods that were waited for in vain, as NAMESPACE/NAME. */
export class PodsNotReady extends AmbitError {
  readonly pods: readonly string[]

  constructor(message: string, pods: readonly string[]) {
    super('AMB_LAB', message)
    this.pods = pods
  }
}

/**
 * Waits until every pod is ready or has succeeded; the error says what each other one lacks. The deadline counts anew
 * from each pod that becomes ready: a slow machine gets its time, a pod that never comes up does not hold up for long.
 */
export async function waitForPods(
  api: KubeApi,
  options: {
    readonly namespace?: string
    /** Only pods of these; all when left out. */
    readonly namespaces?: ReadonlySet<string>
    /** Without progress. */
    readonly deadlineMs: number
    readonly report?: ((line: string) => void) | undefined
    readonly signal?: AbortSignal | undefined
  },
): Promise<void> {
  const { namespaces } = options
  const isAwaited = ({ metadata }: KubeObject): boolean =>
    namespaces?.has(metadata?.namespace ?? '') !== false
  let deadline = Date.now() + options.deadlineMs
  let mostReady = 0
  let reported = ''
  for (;;) {
    options.signal?.throwIfAborted()
    const list = await api.list(PODS, {
      ...(options.namespace === undefined ? {} : { namespace: options.namespace }),
    })
    const pods = (list.ok ? list.value.items : []).filter((pod) => isAwaited(pod))
    const unready = pods.filter((pod) => !isSettled(pod))
    // Controllers need a moment to make pods out of what was applied; asked for only then, for asking costs those who start their time.
    const areAllReady = list.ok && unready.length === 0
    if (areAllReady && (await areWorkloadsFull(api, options.namespace, isAwaited))) return
    const ready = pods.length - unready.length
    if (ready > mostReady) {
      mostReady = ready
      deadline = Date.now() + options.deadlineMs
    }
    const line = `pods: ${ready} of ${pods.length} ready`
    if (line !== reported && pods.length > 0) options.report?.(line)
    reported = line
    if (Date.now() > deadline) {
      const why = list.ok ? unready.map(describe).join('; ') : list.error.message
      throw new PodsNotReady(
        `Cannot get all pods ready, none more within ${options.deadlineMs / 1000} s: ${why}`,
        unready.map((pod) => objectKey(pod)),
      )
    }
    await sleep(POLL_MS)
  }
}

type Workload = KubeObject & {
  readonly spec?: { readonly replicas?: number }
  readonly status?: {
    readonly observedGeneration?: number
    readonly replicas?: number
    readonly updatedReplicas?: number
    readonly desiredNumberScheduled?: number
    readonly currentNumberScheduled?: number
  }
}

/** Whether every Deployment, StatefulSet and DaemonSet has as many pods as it wants. */
async function areWorkloadsFull(
  api: KubeApi,
  namespace: string | undefined,
  isAwaited: (object: KubeObject) => boolean,
): Promise<boolean> {
  const scope = namespace === undefined ? '' : `/namespaces/${namespace}`
  for (const plural of ['deployments', 'daemonsets', 'statefulsets']) {
    const path = `/apis/apps/v1${scope}/${plural}`
    const list = await api.raw<{ readonly items: readonly Workload[] }>({
      method: 'GET',
      path,
      call: `list ${plural}`,
    })
    // The lab's own API server has no StatefulSets: nothing there would act on them.
    if (!list.ok && list.error.kind === 'notFound') continue
    if (!list.ok) return false
    for (const { spec, status } of list.value.items.filter(isAwaited)) {
      const wanted =
        plural === 'daemonsets' ? (status?.desiredNumberScheduled ?? 1) : (spec?.replicas ?? 1)
      const there =
        plural === 'daemonsets' ? (status?.currentNumberScheduled ?? 0) : (status?.replicas ?? 0)
      if (there < wanted) return false
    }
  }
  return true
}

function isSettled(pod: Pod): boolean {
  if (pod.status?.phase === 'Succeeded') return true
  return (pod.status?.conditions ?? []).some(
    (condition) => condition.type === 'Ready' && condition.status === 'True',
  )
}

function describe(pod: Pod): string {
  const { namespace = '', name = '' } = pod.metadata ?? {}
  const states = [
    ...(pod.status?.initContainerStatuses ?? []),
    ...(pod.status?.containerStatuses ?? []),
  ]
    .filter((status) => !status.ready)
    .map((status) => {
      const detail = status.state?.waiting ?? status.state?.terminated
      const why = [detail?.reason, detail?.message].filter((text) => text !== undefined).join(': ')
      return `${status.name} ${why === '' ? 'not ready' : why}`
    })
  // Without a node there are no containers to tell of: the scheduler says why.
  const unscheduled = (pod.status?.conditions ?? []).find(
    (condition) => condition.type === 'PodScheduled' && condition.status === 'False',
  )?.message
  const phase = pod.status?.phase ?? 'no status'
  const what =
    states.length > 0
      ? states.join(', ')
      : [phase, unscheduled].filter((text) => text !== undefined).join(': ')
  return `${namespace}/${name} (${what})`
}
