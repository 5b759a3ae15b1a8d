// SPDX-License-Identifier: Apache-2.0
// The controllers of the lab's cluster: what kube-controller-manager and kube-scheduler do, as far as
// the lab needs it. They work on the API server's store in the same process.

import { createLogger } from '../../../../mesh/telemetry/log.ts'
import type { ClusterApi, ConfirmGone, ControllerParts } from '../../objects/cluster-api.ts'
import type { StoredObject } from '../../objects/stored-object.ts'
import { watchAllResources } from './all-resources.ts'
import { type ControlLoop, find, isDeleting, type NodeFilter } from './controller.ts'
import { daemonSetLoop } from './daemon-sets.ts'
import { deploymentLoop } from './deployments.ts'
import { endpointSliceLoop, publishKubernetesEndpoints } from './endpoint-slices.ts'
import { GarbageCollector } from './garbage-collector.ts'
import { namespaceLoop } from './namespaces.ts'
import { nodeLoop } from './nodes.ts'
import { replicaSetLoop } from './replica-sets.ts'
import { schedulerLoop } from './scheduler.ts'
import { WorkQueue } from './work-queue.ts'

export interface ControllerOptions {
  readonly api: ClusterApi
  /** Which to run; all of them when left out. */
  readonly parts?: ControllerParts | undefined
  /** Nodes that pods may be given to, and that may be changed; all of them when left out. */
  readonly isOurNode?: ((node: StoredObject) => boolean) | undefined
  /** Where cluster clients reach the API server: endpoints of default/kubernetes. */
  readonly apiServerEndpoints?:
    | readonly { readonly ip: string; readonly port: number }[]
    | undefined
  /** Published in every namespace as ConfigMap kube-root-ca.crt, key ca.crt. */
  readonly rootCaPem?: string | undefined
  /** Set on what the controllers make of their own accord: default service accounts and root certificates. */
  readonly labels?: { readonly [key: string]: string } | undefined
  /** Asks whether an owner is really gone before what it owned is deleted; without it, not knowing it is enough. */
  readonly confirmGone?: ConfirmGone | undefined
  /** Deletes what is in a namespace and gives how much there still was; without it, what the reads show. */
  readonly emptyNamespace?: ((name: string) => Promise<number>) | undefined
  /** Called when a control loop met something unexpected; the loop goes on. */
  readonly onError?: ((error: Error) => void) | undefined
}

export interface Controllers {
  /** Resolves when every queued change has been worked off: for tests. */
  idle(): Promise<void>
  stop(): void
}

/** Runs a loop: its feeds fill its queue. */
function run(
  api: ClusterApi,
  loop: ControlLoop,
  onError: (error: Error) => void,
): { readonly queue: WorkQueue; readonly stop: () => void } {
  const queue = new WorkQueue(loop.name, loop.reconcile, onError)
  const stops = loop.feeds.map((feed) =>
    api.watch(feed.resource, {}, (event) => {
      for (const key of feed.keysOf(event)) queue.add(key)
    }),
  )
  return {
    queue,
    stop: () => {
      for (const stop of stops) stop()
      queue.stop()
    },
  }
}

/** Starts all controllers. They hold no timer that keeps a process alive once the store is at rest. */
export function startControllers(options: ControllerOptions): Controllers {
  const { api, parts = { manager: true, scheduler: true }, isOurNode = () => true } = options
  const log = createLogger('lab-controllers', 'warn')
  const onError =
    options.onError ??
    ((error: Error) => log.error({ error: error.message }, 'control loop failed'))

  const scheduler = parts.scheduler ? [run(api, schedulerLoop(api, isOurNode), onError)] : []
  const manager = parts.manager ? runManager(options, isOurNode, onError) : undefined
  const queues = [...(manager?.queues ?? []), ...scheduler.map((loop) => loop.queue)]
  return {
    idle: async () => {
      while (queues.some((queue) => !queue.isIdle))
        await new Promise((resolve) => setImmediate(resolve))
    },
    stop: () => {
      manager?.stop()
      for (const loop of scheduler) loop.stop()
    },
  }
}

/** What kube-controller-manager does. */
function runManager(
  options: ControllerOptions,
  isOurNode: NodeFilter,
  onError: (error: Error) => void,
): { readonly queues: readonly WorkQueue[]; readonly stop: () => void } {
  const { api } = options
  const namespaces = run(api, namespaceLoop(api, options), onError)
  const loops = [
    namespaces,
    ...[
      replicaSetLoop(api),
      deploymentLoop(api),
      daemonSetLoop(api, isOurNode),
      endpointSliceLoop(api),
      nodeLoop(api, isOurNode),
    ].map((loop) => run(api, loop, onError)),
  ]
  const garbage = new WorkQueue('garbage-collector', (key) => collector.reconcile(key), onError)
  const collector = new GarbageCollector(api, (key) => garbage.add(key), options.confirmGone)
  const stopWatching = watchAllResources(api, (type, event) => {
    collector.observe(type, event)
    const { namespace } = event.object.metadata
    if (event.type !== 'DELETED' || namespace === undefined) return
    const space = find(api, 'namespaces', undefined, namespace)
    if (space !== undefined && isDeleting(space)) namespaces.queue.add(`/${namespace}`)
  })
  if (options.apiServerEndpoints !== undefined) {
    publishKubernetesEndpoints(api, options.apiServerEndpoints).then((problem) => {
      if (problem !== undefined) onError(new Error(`Cannot publish the API server: ${problem}`))
    }, onError)
  }
  return {
    queues: [garbage, ...loops.map((loop) => loop.queue)],
    stop: () => {
      stopWatching()
      for (const loop of loops) loop.stop()
      garbage.stop()
    },
  }
}
