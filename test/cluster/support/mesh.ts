// SPDX-License-Identifier: Apache-2.0
// Ambit on a cluster of ours, and the sample application, as a user installs them: kubectl apply -f.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import type { Test } from 'tap'
import type { DemoLab } from '../../../lab/demo/check.ts'
import { SAMPLE_IMAGE } from '../../../lab/real/images.ts'
import { NODES } from '../../../lab/real/layout.ts'

const at = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url))

const INSTALLATION = at('daemonset/install.yaml')
const KINDS = [at('lab/manifests/gateway-kinds.yaml'), at('daemonset/chart/crds/policy-kinds.yaml')]
const SHOP = at('lab/samples/shop.yaml')
const ROLLED_OUT = ['deployment/ambit-controller', 'daemonset/ambit-agent'] as const
/** How long kubectl is asked to wait, for images, kubelets and rollouts. */
export const TIMEOUT = '--timeout=150s'

type Cluster = Pick<DemoLab, 'kubectl' | 'apply'>

/** The kinds of objects that the stories make. */
export async function installKinds({ kubectl }: Cluster): Promise<void> {
  for (const kinds of KINDS) await kubectl('apply', '--server-side', '-f', kinds)
}

/** Applies the installation; resolves when controllers and agents are ready. Again, it changes nothing. */
export async function installMesh(lab: Cluster): Promise<void> {
  const { kubectl } = lab
  await installKinds(lab)
  await kubectl('apply', '--server-side', '-f', INSTALLATION)
  for (const name of ROLLED_OUT)
    await kubectl('rollout', 'status', '-n', 'ambit-system', name, TIMEOUT)
}

/** Takes it off as a person does who knows nothing of it: by deleting what was applied. */
export async function removeMesh({ kubectl }: Cluster): Promise<void> {
  await kubectl('delete', '-f', INSTALLATION, '--ignore-not-found', TIMEOUT)
}

/** Every pod of the namespace, as its agent says. */
export async function untilCaptured({ kubectl }: Cluster, namespace: string): Promise<void> {
  const enabled = '--for=jsonpath={.metadata.annotations.ambient\\.istio\\.io/redirection}=enabled'
  await kubectl('wait', 'pod', '--all', '-n', namespace, enabled, TIMEOUT)
}

/** Looks for what a mesh that was taken off might leave on the nodes of a cluster of ours. */
export async function nothingIsLeft(t: Test, lab: DemoLab): Promise<void> {
  for (const node of NODES) {
    const on = async (script: string): Promise<string> =>
      await lab.nodeExec(node, 'sh', '-c', `${script}; true`)
    t.equal(await on('find /sys/fs/bpf/ambit -mindepth 1 | head -3'), '', `no pin on ${node}`)
    t.equal(await on('ls /opt/cni/bin | grep ambit'), '', `no plugin on ${node}`)
    t.equal(await on('grep -l ambit -r /etc/cni/net.d'), '', `no entry in the chain of ${node}`)
    t.equal(await on('find /run/ambit -type f'), '', `no file on ${node}`)
  }
}

/** Of the sample application. */
export const NAMESPACES = ['shop', 'legacy'] as const

/**
 * Applies the sample application with an image that the cluster has, on the nodes that it names or wherever the scheduler puts it;
 * resolves when its pods are ready.
 */
export async function applyShop({ kubectl, apply }: Cluster, hasItsNodes = true): Promise<void> {
  const image = process.env['AMBIT_SAMPLE_IMAGE'] ?? SAMPLE_IMAGE
  const named = readFileSync(SHOP, 'utf8').replaceAll('image: host', `image: ${image}`)
  const text = hasItsNodes ? named : named.replaceAll(/^ +nodeName: .*$/gm, '')
  const items = parseAllDocuments(text).map((document) => document.toJSON() as object)
  await apply({ apiVersion: 'v1', kind: 'List', items })
  for (const namespace of NAMESPACES)
    await kubectl('wait', 'pod', '--all', '-n', namespace, '--for=condition=Ready', TIMEOUT)
}

/** Takes its namespaces away. */
export async function removeShop({ kubectl }: Cluster): Promise<void> {
  await kubectl('delete', 'namespace', ...NAMESPACES, '--ignore-not-found', TIMEOUT)
}
