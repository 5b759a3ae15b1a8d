// SPDX-License-Identifier: Apache-2.0
// The lab's kubelet: one process per node, in the node's network namespace. Registers the node, watches the
// pods bound to it, and gives each a worker. Started by the lab with its options as one JSON argument.

import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createKubeApi, type KubeApi } from '../../mesh/kube/api.ts'
import { loadKubeConfig } from '../../mesh/kube/access.ts'
import { NODES, type Node, type Pod, PODS } from '../../mesh/kube/resources.ts'
import { watchResource } from '../../mesh/kube/watch-resource.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { labLayout, nodeLayout } from '../cluster/layout.ts'
import { type NodePlan, nodePlan, PodAddressPool } from '../network/addressing.ts'
import { BUILT_IN_PLUGIN } from './cni.ts'
import type { KubeletContext } from './context.ts'
import { eventRecorder } from './events.ts'
import { IP_FAMILIES_ANNOTATION, labNetPlugin, parseIpFamilies } from './lab-net-plugin.ts'
import { ObjectCache } from './object-cache.ts'
import { PodWorker } from './pod-worker.ts'

/** What the lab tells a kubelet at its start. */
export type KubeletArguments = {
  readonly lab: string
  readonly nodeIndex: number
  readonly kubeconfig: string
}

/** Runs until the process is ended. */
async function main(options: KubeletArguments): Promise<void> {
  const plan = nodePlan(options.nodeIndex)
  const lab = labLayout(options.lab)
  const node = nodeLayout(lab, plan.name)
  const logger = createLogger('kubelet').child({ node: plan.name })
  const access = await loadKubeConfig({ kubeconfig: options.kubeconfig })
  if (!access.ok) throw access.error
  const api = createKubeApi(access.value)
  const context: KubeletContext = {
    lab,
    node,
    plan,
    pool: new PodAddressPool(plan),
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

  await registerNode(api, plan)
  logger.info('node is ready')
  process.send?.({ kind: 'ready' })
  process.disconnect?.()
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

async function registerNode(api: KubeApi, plan: NodePlan): Promise<void> {
  const now = new Date().toISOString()
  const release = (await readFile('/proc/sys/kernel/osrelease', 'utf8')).trim()
  const metadata = {
    name: plan.name,
    labels: {
      'kubernetes.io/hostname': plan.name,
      'kubernetes.io/os': 'linux',
      'kubernetes.io/arch': process.arch === 'x64' ? 'amd64' : process.arch,
    },
  }
  const node: Node = {
    metadata,
    spec: { podCIDR: plan.podCidr4, podCIDRs: [plan.podCidr4, plan.podCidr6] },
  }
  const created = await api.create(NODES, node)
  if (!created.ok && created.error.kind !== 'alreadyExists') throw new Error(created.error.message)
  const capacity = { cpu: '2', memory: '4Gi', pods: '250' }
  const status = {
    addresses: [
      { type: 'InternalIP', address: plan.ip4 },
      { type: 'InternalIP', address: plan.ip6 },
      { type: 'Hostname', address: plan.name },
    ],
    capacity,
    allocatable: capacity,
    conditions: [
      {
        type: 'Ready',
        status: 'True',
        reason: 'KubeletReady',
        message: 'the lab kubelet runs',
        lastHeartbeatTime: now,
        lastTransitionTime: now,
      },
    ],
    nodeInfo: {
      kernelVersion: release,
      osImage: 'this machine',
      operatingSystem: 'linux',
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      containerRuntimeVersion: 'ambit-lab://1',
      kubeletVersion: 'v1.33.0-ambit-lab',
      kubeProxyVersion: 'v1.33.0-ambit-lab',
      machineID: plan.name,
      systemUUID: plan.name,
      bootID: plan.name,
    },
  }
  const patched = await api.patch(NODES, { name: plan.name }, { status }, { subresource: 'status' })
  if (!patched.ok) throw new Error(patched.error.message)
}

await main(JSON.parse(process.argv[2] ?? '{}') as KubeletArguments)
