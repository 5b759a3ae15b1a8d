// SPDX-License-Identifier: Apache-2.0
// Decides, before anything is made, how a lab is going to stand against a real API server.

import { randomBytes } from 'node:crypto'
import { AmbitError } from '../../../mesh/errors.ts'
import { loadKubeConfig } from '../../../mesh/kube/access.ts'
import { createKubeApi } from '../../../mesh/kube/api.ts'
import { copyKubeconfig, type KubeconfigCopy, type ServerChoice } from './kubeconfig.ts'
import {
  type ClusterFacts,
  type ControllersChoice,
  type ExclusiveObject,
  inspectCluster,
} from './preflight.ts'
import { LAB_TAINT } from '../objects/lab-marks.ts'
import type { AttachedState } from './removal.ts'

/** What a person may say about it. */
export type AttachOptions = ServerChoice & {
  readonly controllers?: ControllersChoice | undefined
  /** Keep other pods off the lab's nodes; when left out, only if the cluster has other nodes for them. */
  readonly taint?: boolean | undefined
}

export interface AttachPlan {
  readonly kubeconfig: KubeconfigCopy
  readonly facts: ClusterFacts
  readonly state: AttachedState
  readonly isTainted: boolean
  /** What the lab runs it runs under the cluster's own leases: whoever comes later waits, and takes over after it. */
  readonly takesLeases: boolean
  /** What a person should know of it, as sentences. */
  readonly lines: readonly string[]
}

const RUN_ID_BYTES = 8

/** Reads the kubeconfig and looks at the cluster. Throws a coded error for what makes a lab impossible there. */
export async function planAttachment(
  options: AttachOptions,
  lab: {
    readonly name: string
    readonly nodes: readonly string[]
    readonly exclusive: readonly ExclusiveObject[]
  },
): Promise<AttachPlan> {
  const kubeconfig = await copyKubeconfig(options)
  const access = await loadKubeConfig({
    kubeconfig: options.kubeconfig,
    context: kubeconfig.context,
  })
  if (!access.ok) throw access.error
  const facts = await inspectCluster(createKubeApi(access.value), {
    nodes: lab.nodes,
    controllers: options.controllers ?? 'auto',
    exclusive: lab.exclusive,
  })
  const { parts } = facts
  if (parts.manager && kubeconfig.caPem === undefined) {
    throw new AmbitError(
      'AMB_KUBECONFIG',
      `Cannot use kubeconfig ${options.kubeconfig}: context "${kubeconfig.context}" names no certificate-authority, which pods need and the cluster does not publish itself`,
    )
  }
  const isTainted = options.taint ?? facts.hasOtherNodes
  const { server, context } = kubeconfig
  return {
    kubeconfig,
    facts,
    state: { server, context, runId: randomBytes(RUN_ID_BYTES).toString('hex'), parts, made: [] },
    isTainted,
    takesLeases: options.controllers !== 'lab',
    lines: [
      `API server: ${server} (context "${context}", Kubernetes ${facts.version})`,
      `controllers: ${whose(parts.manager)}; scheduler: ${whose(parts.scheduler)}`,
      ...(isTainted
        ? [
            `nodes have the taint ${LAB_TAINT}=${lab.name}:NoSchedule: only pods that tolerate it come`,
          ]
        : []),
    ],
  }
}

const whose = (isLab: boolean): string => (isLab ? "the lab's" : "the cluster's own")
