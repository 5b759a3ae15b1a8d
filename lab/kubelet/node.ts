// SPDX-License-Identifier: Apache-2.0
// A node in the eyes of the API: its object, and the lease by which its kubelet says that it lives.

import { readFile } from 'node:fs/promises'
import { AmbitError } from '../../mesh/errors.ts'
import type { KubeApi } from '../../mesh/kube/api.ts'
import { type Lease, LEASES, NODES, type Node } from '../../mesh/kube/resources.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { NodePlan } from '../network/addressing.ts'

/** What a node's object carries besides the node itself. */
export interface NodeMarks {
  readonly labels: { readonly [key: string]: string }
  readonly taints: readonly {
    readonly key: string
    readonly value: string
    readonly effect: string
  }[]
}

/** As Kubernetes' kubelets do: a quarter of the lease's life. */
const RENEW_MS = 10_000
const LEASE_SECONDS = 40
const LEASE_NAMESPACE = 'kube-node-lease'
const ARCHITECTURE = process.arch === 'x64' ? 'amd64' : process.arch

/** Makes the node's object and says that it is ready. Throws AMB_LAB_CLASH when there is a node of that name. */
export async function registerNode(api: KubeApi, plan: NodePlan, marks: NodeMarks): Promise<Node> {
  const node = {
    metadata: {
      name: plan.name,
      labels: {
        'kubernetes.io/hostname': plan.name,
        'kubernetes.io/os': 'linux',
        'kubernetes.io/arch': ARCHITECTURE,
        ...marks.labels,
      },
    },
    spec: {
      podCIDR: plan.podCidr4,
      podCIDRs: [plan.podCidr4, plan.podCidr6],
      ...(marks.taints.length === 0 ? {} : { taints: [...marks.taints] }),
    },
  }
  const created = await api.create(NODES, node)
  if (!created.ok) {
    if (created.error.kind !== 'alreadyExists') throw new Error(created.error.message)
    throw new AmbitError(
      'AMB_LAB_CLASH',
      `Cannot register node "${plan.name}": the cluster has one`,
    )
  }
  const status = await nodeStatus(plan)
  const patched = await api.patch(NODES, { name: plan.name }, { status }, { subresource: 'status' })
  if (!patched.ok) throw new Error(patched.error.message)
  return patched.value
}

async function nodeStatus(plan: NodePlan): Promise<object> {
  const now = new Date().toISOString()
  const release = (await readFile('/proc/sys/kernel/osrelease', 'utf8')).trim()
  const capacity = { cpu: '2', memory: '4Gi', pods: '250' }
  return {
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
      architecture: ARCHITECTURE,
      containerRuntimeVersion: 'ambit-lab://1',
      kubeletVersion: 'v1.33.0-ambit-lab',
      kubeProxyVersion: 'v1.33.0-ambit-lab',
      machineID: plan.name,
      systemUUID: plan.name,
      bootID: plan.name,
    },
  }
}

/** Renews the node's lease for as long as the process lives: without it a real cluster gives the node up. */
export function renewNodeLease(api: KubeApi, node: Node, marks: NodeMarks, logger: Logger): void {
  const { name = '', uid = '' } = node.metadata ?? {}
  const renew = async (): Promise<void> => {
    const spec = {
      holderIdentity: name,
      leaseDurationSeconds: LEASE_SECONDS,
      // The API's MicroTime.
      renewTime: new Date().toISOString().replace('Z', '000Z'),
    }
    const target = { namespace: LEASE_NAMESPACE, name }
    const patched = await api.patch(LEASES, target, { spec })
    if (patched.ok) return
    if (patched.error.kind !== 'notFound') {
      logger.warn({ reason: patched.error.message }, 'the node lease was not renewed')
      return
    }
    const lease: Lease = {
      metadata: {
        ...target,
        labels: { ...marks.labels },
        ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name, uid }],
      },
      spec,
    }
    const created = await api.create(LEASES, lease)
    if (!created.ok) logger.warn({ reason: created.error.message }, 'the node has no lease')
  }
  const round = (): void => {
    renew()
      .catch((error: unknown) => logger.error({ error: String(error) }, 'the node lease'))
      .finally(() => setTimeout(round, RENEW_MS))
  }
  round()
}
