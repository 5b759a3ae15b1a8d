// SPDX-License-Identifier: Apache-2.0
// Ambit on a cluster of ours, and the sample application, as a user installs them: kubectl apply -f.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import type { DemoLab } from '../../../lab/demo/check.ts'
import { SAMPLE_IMAGE } from '../../../lab/real/images.ts'

const at = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url))

export const INSTALLATION = at('daemonset/install.yaml')
const KINDS = [at('lab/manifests/gateway-kinds.yaml'), at('daemonset/chart/crds/policy-kinds.yaml')]
const SHOP = at('lab/samples/shop.yaml')
const ROLLED_OUT = ['deployment/ambit-controller', 'daemonset/ambit-agent'] as const
const TIMEOUT = '--timeout=150s'

type Cluster = Pick<DemoLab, 'kubectl' | 'apply'>

/** Applies the installation; resolves when controllers and agents are ready. Again, it changes nothing. */
export async function installMesh({ kubectl }: Cluster): Promise<void> {
  for (const kinds of KINDS) await kubectl('apply', '--server-side', '-f', kinds)
  await kubectl('apply', '--server-side', '-f', INSTALLATION)
  for (const name of ROLLED_OUT)
    await kubectl('rollout', 'status', '-n', 'ambit-system', name, TIMEOUT)
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
