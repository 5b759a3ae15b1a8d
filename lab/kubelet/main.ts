// SPDX-License-Identifier: Apache-2.0
// The lab's kubelet: one process per node, in the node's network namespace. Registers the node, watches the
// pods bound to it, and gives each a worker. Started by the lab with its options as one JSON argument.

import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createKubeApi } from '../../mesh/kube/api.ts'
import { type ClusterAccess, loadKubeConfig } from '../../mesh/kube/access.ts'
import { type Pod, PODS } from '../../mesh/kube/resources.ts'
import { watchResource } from '../../mesh/kube/watch-resource.ts'
import { createLogger, environmentLogLevel } from '../../mesh/telemetry/log.ts'
import { socketAccess } from '../machine/socket-access.ts'
import { labLayout, nodeLayout } from '../machine/layout.ts'
import { tellReady } from '../machine/tell-ready.ts'
import { nodePlan, PodAddressPool, type PodNet } from '../network/addressing.ts'
import { BUILT_IN_PLUGIN } from './cni.ts'
import type { ClusterAddresses, KubeletContext } from './context.ts'
import { eventRecorder } from './events.ts'
import { IP_FAMILIES_ANNOTATION, labNetPlugin, parseIpFamilies } from './lab-net-plugin.ts'
import { type NodeMarks, registerNode, renewNodeLease } from './node.ts'
import { ObjectCache } from './object-cache.ts'
import { PodWorker } from './pod-worker.ts'

/** What the lab tells a kubelet at its start. */
export interface KubeletArguments {
  readonly lab: string
  readonly nodeIndex: number
  readonly podNet: PodNet
  /** How this process reaches the API server. */
  readonly api:
    | { readonly kind: 'kubeconfig'; readonly path: string }
    | { readonly kind: 'gateway'; readonly socket: string }
  readonly addresses: ClusterAddresses
  readonly marks: NodeMarks
}

/** Runs until the process is ended. */
async function main(options: KubeletArguments): Promise<void> {
  const plan = nodePlan(options.nodeIndex, options.podNet)
  const lab = labLayout(options.lab)
  const node = nodeLayout(lab, plan.name)
  const logger = createLogger('kubelet', environmentLogLevel()).child({ node: plan.name })
  const api = createKubeApi(await accessOf(options.api))
  const context: KubeletContext = {
    lab,
    node,
    plan,
    pool: new PodAddressPool(plan),
    addresses: options.addresses,
    api,
    events: eventRecorder(api, plan.name, logger),
    objects: new ObjectCache(api, logger),
    logger,
  }
  await writeCniConfiguration(node.cniNetDir)
  await mkdir(node.podsCgroup, { recursive: true })
  const workers = new Map<string, PodWorker>()
  const network = labNetPlugin(plan, context.pool, (uid) => {
    const annotations = workers.get(uid)?.pod.metadata?.annotations
    return parseIpFamilies(annotations?.[IP_FAMILIES_ANNOTATION]) ?? ['IPv4', 'IPv6']
  })

  const see = (pod: Pod): void => {
    const uid = pod.metadata?.uid ?? ''
    const worker = workers.get(uid)
    if (worker !== undefined) {
      worker.update(pod)
      return
    }
    const isOver = pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed'
    if (isOver && pod.metadata?.deletionTimestamp === undefined) return
    const created = new PodWorker(context, network, pod)
    workers.set(uid, created)
    if (pod.metadata?.deletionTimestamp !== undefined) created.update(pod)
  }

  watchResource(api, PODS, {
    fieldSelector: `spec.nodeName=${plan.name}`,
    logger,
    added: see,
    updated: (previous, current) => {
      // Deleted and made again under the same name between two looks.
      if (previous.metadata?.uid !== current.metadata?.uid) forget(previous)
      see(current)
    },
    deleted: (pod) => forget(pod),
  })

  const forget = (pod: Pod): void => {
    const uid = pod.metadata?.uid ?? ''
    const worker = workers.get(uid)
    if (worker === undefined) return
    void worker.end(0).finally(() => workers.delete(uid))
  }

  const registered = await registerNode(api, plan, options.marks)
  renewNodeLease(api, registered, options.marks, logger)
  logger.info('node is ready')
  tellReady()
}

async function accessOf(api: KubeletArguments['api']): Promise<ClusterAccess> {
  if (api.kind === 'gateway') return socketAccess(api.socket)
  const access = await loadKubeConfig({ kubeconfig: api.path })
  if (!access.ok) throw access.error
  return access.value
}

/** The chain that the agent extends; left alone when someone was here first. */
async function writeCniConfiguration(netDir: string): Promise<void> {
  await mkdir(netDir, { recursive: true })
  const list = { cniVersion: '1.0.0', name: 'ambit-lab', plugins: [{ type: BUILT_IN_PLUGIN }] }
  const path = join(netDir, '10-ambit-lab.conflist')
  await writeFile(path, `${JSON.stringify(list, undefined, 2)}\n`, { flag: 'wx' }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    },
  )
}

await main(JSON.parse(process.argv[2] ?? '{}') as KubeletArguments)
