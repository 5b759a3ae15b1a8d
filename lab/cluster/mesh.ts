// SPDX-License-Identifier: Apache-2.0
// Installs the mesh into a lab: the manifests of lab/manifests/mesh.yaml with the lab's paths filled in.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { AmbitError } from '../../mesh/errors.ts'
import type { KubeApi } from '../../mesh/kube/api.ts'
import { defineResource } from '../../mesh/kube/resources.ts'
import type { ExclusiveObject } from '../kubernetes/real/preflight.ts'
import type { LabLayout } from '../machine/layout.ts'
import { type Manifest, parseManifests } from '../machine/manifests.ts'

/** Where lab/manifests/mesh.yaml puts controller and agents. */
export const MESH_NAMESPACE = 'ambit-system'

const MANIFEST_FILE = manifestFile('mesh.yaml')
const KINDS_FILE = manifestFile('policy-kinds.yaml')
const CUSTOM_RESOURCE_DEFINITIONS = defineResource(
  'apiextensions.k8s.io',
  'v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  'cluster',
)
const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

/** Those of the mesh's objects that the whole cluster has one of: somebody else's must not be taken over. */
export function exclusiveObjects(manifests: readonly Manifest[]): readonly ExclusiveObject[] {
  return manifests.flatMap(({ apiVersion, kind, name }) => {
    const plural = CLUSTER_KINDS[kind]
    if (plural === undefined) return []
    const [version = '', group = ''] = apiVersion.split('/').toReversed()
    return [{ resource: defineResource(group, version, plural, kind, 'cluster'), name }]
  })
}

const CLUSTER_KINDS: Readonly<Record<string, string>> = {
  Namespace: 'namespaces',
  ClusterRole: 'clusterroles',
  ClusterRoleBinding: 'clusterrolebindings',
}

function manifestFile(name: string): string {
  return fileURLToPath(new URL(`../manifests/${name}`, import.meta.url))
}

/**
 * The definitions of the kinds of policies, as far as the cluster has none: those of Istio, or of another of our labs, stay as they
 * are.
 */
export async function absentPolicyKinds(api: KubeApi): Promise<readonly Manifest[]> {
  const absent: Manifest[] = []
  for (const manifest of parseManifests(readFileSync(KINDS_FILE, 'utf8'), KINDS_FILE)) {
    const found = await api.get(CUSTOM_RESOURCE_DEFINITIONS, { name: manifest.name })
    if (found.ok) continue
    if (found.error.kind !== 'notFound') throw new AmbitError('AMB_KUBE_API', found.error.message)
    absent.push(manifest)
  }
  return absent
}

/** The mesh's manifests for this lab. */
export function meshManifests(lab: LabLayout): readonly Manifest[] {
  const values: Readonly<Record<string, string>> = {
    LAB: lab.name,
    REPOSITORY,
    CGROUP: lab.cgroup,
    RUN: lab.runDir,
  }
  const text = readFileSync(MANIFEST_FILE, 'utf8').replace(
    /\$\{(\w+)\}/g,
    (whole, name: string) => values[name] ?? whole,
  )
  return parseManifests(text, MANIFEST_FILE)
}
