// SPDX-License-Identifier: Apache-2.0
// Installs the mesh into a lab: the objects of the chart as lab-mesh.ts fits them to it.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { chartKinds, type ChartObject, renderChart } from '../../daemonset/render/chart.ts'
import { AmbitError } from '../../mesh/errors.ts'
import type { KubeApi } from '../../mesh/kube/api.ts'
import { defineResource } from '../../mesh/kube/resources.ts'
import { record } from '../kubernetes/objects/json.ts'
import type { ExclusiveObject } from '../kubernetes/real/preflight.ts'
import type { LabLayout } from '../machine/layout.ts'
import { type Manifest, parseManifests } from '../machine/manifests.ts'
import { DRAIN_SECONDS, labObject } from './lab-mesh.ts'

/** Where controller and agents of a lab are. */
export const MESH_NAMESPACE = 'ambit-system'

const GATEWAY_KINDS = fileURLToPath(new URL('../manifests/gateway-kinds.yaml', import.meta.url))
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

/** What a lab's mesh is made of, read and rendered: nothing of it asks the API server yet. */
export interface MeshParts {
  /** The definitions of the kinds of policies, gateways and routes. */
  readonly kinds: readonly Manifest[]
  readonly manifests: readonly Manifest[]
}

/** Reads what is to be applied, which takes a good part of a second of the processor's time. */
export async function readMesh(lab: LabLayout): Promise<MeshParts> {
  return { kinds: meshKinds(), manifests: await meshManifests(lab) }
}

function meshKinds(): readonly Manifest[] {
  return [
    ...chartKinds().map((kind) => asManifest(kind, kind.object)),
    ...parseManifests(readFileSync(GATEWAY_KINDS, 'utf8'), GATEWAY_KINDS),
  ]
}

/**
 * Those of the definitions that the cluster has none of: those of Istio, of the Gateway API, or of another of our labs, stay as they are.
 */
export async function absentKinds(
  api: KubeApi,
  kinds: readonly Manifest[] = meshKinds(),
): Promise<readonly Manifest[]> {
  const found = await Promise.all(
    kinds.map(({ name }) => api.get(CUSTOM_RESOURCE_DEFINITIONS, { name })),
  )
  return kinds.filter((_, index) => {
    const one = found[index]
    if (one === undefined || one.ok) return false
    if (one.error.kind !== 'notFound') throw new AmbitError('AMB_KUBE_API', one.error.message)
    return true
  })
}

/** The mesh's manifests for this lab. */
export async function meshManifests(lab: LabLayout): Promise<readonly Manifest[]> {
  const program = `${REPOSITORY}/cli/bin/ambit`
  const values = {
    createNamespace: true,
    controller: {
      replicas: 1,
      podDisruptionBudget: false,
      // Waypoints run what the lab's machine has, too; as root, for whoever's home the repository lies in may be closed to others.
      extraArgs: [`--waypoint-command=${program}`, '--waypoint-user=0'],
    },
    waypoint: { image: 'host' },
    agent: { drainSeconds: DRAIN_SECONDS },
  }
  const { objects } = await renderChart(values, { namespace: MESH_NAMESPACE })
  const paths = { lab: lab.name, repository: REPOSITORY, cgroup: lab.cgroup, run: lab.runDir }
  return objects.map((each) => asManifest(each, labObject(each.object, paths)))
}

function asManifest({ apiVersion, kind, name }: ChartObject, object: Manifest['object']): Manifest {
  const { namespace } = record(object['metadata']) ?? {}
  return {
    apiVersion,
    kind,
    name,
    namespace: typeof namespace === 'string' ? namespace : undefined,
    object,
    where: (field) => `daemonset/chart ${kind} ${name} ${field}`,
  }
}
