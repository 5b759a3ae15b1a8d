// SPDX-License-Identifier: Apache-2.0
// Applies manifests through the Kubernetes API as `kubectl apply --server-side` does, so that `lab up -f` needs no
// kubectl. Refusals are led back to the file, line and field.

import type { KubeApi } from '../../mesh/kube/api.ts'
import { defineResource, type KubeObject, type KubeResource } from '../../mesh/kube/resources.ts'
import { setTimeout as sleep } from 'node:timers/promises'
import type { KubeFailure } from '../../mesh/kube/failure.ts'
import type { Result } from '../../mesh/result.ts'
import { AmbitError } from '../../mesh/errors.ts'
import { record, records } from '../kubernetes/objects/json.ts'
import type { Ownership } from '../kubernetes/real/ownership.ts'
import { bad, type Manifest } from '../machine/manifests.ts'

const FIELD_MANAGER = 'ambit-lab'
/**
 * How long it may take until there is what follows from an object: a service account, a new kind's API. Whoever takes
 * over the work of controllers that are gone waits first, some 17 s, until their lease has run out.
 */
const FOLLOW_UP_DEADLINE_MS = 30_000
const POLL_MS = 100

interface ApiResourceList {
  readonly resources: readonly {
    readonly name: string
    readonly kind: string
    readonly namespaced: boolean
  }[]
}

export interface ApplyOptions {
  /** Told of each object. */
  readonly report?: ((line: string) => void) | undefined
  /** Says which objects are to be marked as the lab's own. */
  readonly ownership?: Ownership | undefined
}

/** Applies manifests in their order, but namespaces and CRDs first. Throws AMB_BAD_MANIFEST. */
export async function applyManifests(
  api: KubeApi,
  manifests: readonly Manifest[],
  options: ApplyOptions = {},
): Promise<void> {
  const known = new Map<string, readonly KubeResource[]>()
  const ordered = manifests.toSorted((one, other) => rank(one) - rank(other))
  for (const manifest of ordered) {
    const resource = await resourceOf(api, manifest, known)
    const { name } = manifest
    const namespace = manifest.namespace ?? 'default'
    const target = resource.namespaced ? { namespace, name } : { name }
    const labels = (await options.ownership?.(resource, target)) ?? {}
    const result = await applyOne(api, resource, target, withLabels(manifest.object, labels))
    if (!result.ok) {
      const field = /([a-z][\w-]*(?:(?:\.[\w-]+)|(?:\[\w+\]))+)\s*:/i.exec(
        result.error.message.replace(/^.*? is invalid: /, ''),
      )?.[1]
      throw bad(manifest.where(field ?? ''), reasonOf(result.error.message))
    }
    options.report?.(
      `${manifest.kind} ${resource.namespaced ? `${namespace}/` : ''}${name} applied`,
    )
    // A new kind is served a moment later; what was learnt before does not hold any more.
    if (manifest.kind === 'CustomResourceDefinition') {
      await untilServed(api, resource, name)
      known.clear()
    }
  }
}

interface Target {
  readonly namespace?: string
  readonly name: string
}

async function applyOne(
  api: KubeApi,
  resource: KubeResource<KubeObject>,
  target: Target,
  object: object,
): Promise<Result<KubeObject, KubeFailure>> {
  const deadline = Date.now() + FOLLOW_UP_DEADLINE_MS
  for (;;) {
    const result = await api.patch(resource, target, object, {
      type: 'apply',
      fieldManager: FIELD_MANAGER,
      force: true,
    })
    // A new namespace has no service account yet, and a pod needs one.
    const isEarly = !result.ok && /serviceaccount "[^"]*" not found/.test(result.error.message)
    if (!isEarly || Date.now() > deadline) return result
    await sleep(POLL_MS)
  }
}

/** A new kind can be used once its definition says that it is established. */
async function untilServed(
  api: KubeApi,
  resource: KubeResource<KubeObject>,
  name: string,
): Promise<void> {
  type Definition = KubeObject & { readonly status?: { readonly conditions?: unknown } }
  const isEstablished = ({ status }: Definition): boolean =>
    records(status?.conditions).some(
      ({ type, status: value }) => type === 'Established' && value === 'True',
    )
  for (const deadline = Date.now() + FOLLOW_UP_DEADLINE_MS; Date.now() < deadline; ) {
    const found = await api.get<Definition>(resource, { name })
    if (found.ok && isEstablished(found.value)) return
    await sleep(POLL_MS)
  }
}

function withLabels(
  object: Manifest['object'],
  labels: { readonly [key: string]: string },
): object {
  if (Object.keys(labels).length === 0) return object
  const metadata = record(object['metadata']) ?? {}
  return { ...object, metadata: { ...metadata, labels: { ...record(metadata.labels), ...labels } } }
}

/** The transport's frame ("Cannot patch ...: ... (HTTP 422)") says nothing about the manifest. */
function reasonOf(message: string): string {
  return message.replace(/^Cannot patch [^:]*: /, '').replace(/ \(HTTP \d+\)$/, '')
}

function rank(manifest: Manifest): number {
  if (manifest.kind === 'Namespace') return 0
  return manifest.kind === 'CustomResourceDefinition' ? 1 : 2
}

async function resourceOf(
  api: KubeApi,
  manifest: Manifest,
  known: Map<string, readonly KubeResource[]>,
): Promise<KubeResource<KubeObject>> {
  const { apiVersion, kind } = manifest
  let resources = known.get(apiVersion)
  if (resources === undefined) {
    resources = await discover(api, manifest)
    known.set(apiVersion, resources)
  }
  const found = resources.find((resource) => resource.kind === kind)
  if (found !== undefined) return found
  throw bad(manifest.where('kind'), `field kind: the cluster has no "${kind}" in ${apiVersion}`)
}

async function discover(api: KubeApi, manifest: Manifest): Promise<readonly KubeResource[]> {
  const { apiVersion } = manifest
  const [version = '', group = ''] = apiVersion.split('/').toReversed()
  const path = group === '' ? `/api/${version}` : `/apis/${group}/${version}`
  const list = await api.raw<ApiResourceList>({
    method: 'GET',
    path,
    call: `discover ${apiVersion}`,
  })
  if (!list.ok) {
    if (list.error.kind === 'notFound') {
      throw bad(
        manifest.where('apiVersion'),
        `field apiVersion: the cluster has no "${apiVersion}"`,
      )
    }
    throw new AmbitError('AMB_KUBE_API', list.error.message)
  }
  return list.value.resources
    .filter((resource) => !resource.name.includes('/'))
    .map(({ name, kind, namespaced }) =>
      defineResource(group, version, name, kind, namespaced ? 'namespaced' : 'cluster'),
    )
}
