// SPDX-License-Identifier: Apache-2.0
// The controllers of a cluster and what they answer.

import { type Pod, PODS } from '../../mesh/kube/index.ts'
import type { Result } from '../../mesh/result.ts'
import { askAdmin } from './admin.ts'
import type { ClusterTarget } from './target.ts'
import { kubeError } from './kube-reads.ts'

/** Of the Deployment. */
const CONTROLLER_LABEL = 'app=ambit-controller'

/** What a controller says of itself, as far as commands read it. */
export interface ControllerStatus {
  readonly version: string
  readonly isLeader: boolean
  readonly pending: readonly string[]
  /** For how many seconds it has heard nothing of each of these kinds of objects; an older one does not say. */
  readonly stale?: Readonly<Record<string, number>>
  readonly rootNotAfter: string
  readonly resources: Readonly<Record<string, { readonly count: number; readonly digest: string }>>
}

export interface ControllerAnswer {
  readonly pod: string
  readonly node: string
  readonly answer: Result<ControllerStatus, string>
}

/** Asks every controller; none is no error: the mesh may be served by another control plane. */
export async function askControllers(target: ClusterTarget): Promise<readonly ControllerAnswer[]> {
  const pods = await listControllers(target)
  return await Promise.all(pods.map((pod) => askController(target, pod)))
}

/** The names of their pods. Throws AMB_KUBE_API. */
export async function controllerPods(target: ClusterTarget): Promise<readonly string[]> {
  const pods = await listControllers(target)
  return pods.map(({ metadata }) => metadata?.name ?? '')
}

async function listControllers({ api, systemNamespace }: ClusterTarget): Promise<readonly Pod[]> {
  const namespace = systemNamespace
  const pods = await api.list(PODS, { namespace, labelSelector: CONTROLLER_LABEL })
  if (!pods.ok) throw kubeError(pods.error)
  return pods.value.items
}

async function askController(
  target: ClusterTarget,
  { metadata, spec }: Pod,
): Promise<ControllerAnswer> {
  const pod = metadata?.name ?? ''
  const answer = await askAdmin(target, { pod, path: '/status' })
  // The shape is that of our own controllers (controller/admin.ts).
  return { pod, node: spec?.nodeName ?? '', answer: answer as Result<ControllerStatus, string> }
}
