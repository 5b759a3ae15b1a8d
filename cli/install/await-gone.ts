// SPDX-License-Identifier: Apache-2.0
// Waits until pods of the mesh have ended, and until a namespace is gone.

import { setTimeout as pause } from 'node:timers/promises'
import { AmbitError } from '../../mesh/errors.ts'
import { type KubeApi, NODES, type Pod, PODS } from '../../mesh/kube/index.ts'
import { kubeError } from '../cluster/kube-reads.ts'
import type { InstallObject } from './objects.ts'

export interface AwaitGoneOptions {
  readonly namespace: string
  readonly timeoutMs: number
  readonly report: (line: string) => void
}

const POLL_MS = 500

/**
 * Waits for pods to end, agents within their drain. One whose node is off never ends, and its node keeps what is there: those that have not ended
 * within the time are given, with their nodes.
 */
export async function awaitGone(
  api: KubeApi,
  app: string,
  { namespace, timeoutMs, report }: AwaitGoneOptions,
): Promise<readonly string[]> {
  const deadline = performance.now() + timeoutMs
  let told = -1
  for (;;) {
    const listed = await api.list(PODS, { namespace, labelSelector: `app=${app}` })
    if (!listed.ok) throw kubeError(listed.error)
    const pods = listed.value.items
    if (pods.length === 0) return []
    if (pods.length !== told) report(`${pods.length} pods of ${app} are ending`)
    told = pods.length
    if (performance.now() > deadline) return standingOf(api, pods)
    await pause(POLL_MS)
  }
}

/** The same; throws AMB_INSTALL where some have not ended. */
export async function requireGone(
  api: KubeApi,
  app: string,
  options: AwaitGoneOptions,
): Promise<void> {
  const where = await awaitGone(api, app, options)
  if (where.length === 0) return
  const seconds = Math.round(options.timeoutMs / 1000)
  throw new AmbitError(
    'AMB_INSTALL',
    `Cannot uninstall: pods of ${app} have not ended after ${seconds} s: ${where.join('; ')}. Of a node that does not come back, delete the pod by force (kubectl delete pod -n ${options.namespace} --force NAME), and uninstall again`,
  )
}

/** A namespace is gone once everything in it is: until then nothing can be installed there again. False where it is still ending. */
export async function awaitEmptied(
  api: KubeApi,
  { title, resource, target }: InstallObject,
  { timeoutMs, report }: AwaitGoneOptions,
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const found = await api.get(resource, target)
    if (!found.ok && found.error.kind === 'notFound') return true
    if (!found.ok) throw kubeError(found.error)
    if (performance.now() > deadline) {
      report(`${title} is still ending: something in it has not ended`)
      return false
    }
    await pause(POLL_MS)
  }
}

async function standingOf(api: KubeApi, pods: readonly Pod[]): Promise<readonly string[]> {
  const listed = await api.list(NODES)
  if (!listed.ok) throw kubeError(listed.error)
  return pods.map(({ metadata, spec }) => {
    const node = listed.value.items.find((each) => each.metadata?.name === spec?.nodeName)
    const isReady = node?.status?.conditions?.some(
      ({ type, status }) => type === 'Ready' && status === 'True',
    )
    const state = isReady === true ? '' : ', which is not ready'
    return `${metadata?.name ?? ''} on ${spec?.nodeName ?? 'no node'}${state}`
  })
}
