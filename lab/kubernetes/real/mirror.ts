// SPDX-License-Identifier: Apache-2.0
// A remote cluster as the lab's controllers want to see it: each resource that is asked for is watched and kept in
// memory, and what a write answered is seen at once, before the watch tells of it.

import { type Result, err, ok } from '../../../mesh/result.ts'
import type { KubeApi } from '../../../mesh/kube/api.ts'
import type { KubeFailure } from '../../../mesh/kube/failure.ts'
import { defineResource, type KubeObject } from '../../../mesh/kube/resources.ts'
import { type ResourceWatch, watchResource } from '../../../mesh/kube/watch-resource.ts'
import type { Logger } from '../../../mesh/telemetry/log.ts'
import { definedResource } from '../objects/custom-resource-types.ts'
import { notFound, refuse } from '../objects/refusals.ts'
import { apiVersionOf, BUILT_IN_TYPES, type ResourceType } from '../objects/resource-types.ts'
import { parseSelectors } from '../objects/selectors.ts'
import type {
  ClusterApi,
  ConfirmGone,
  ListOptions,
  ResourceId,
  WatchEvent,
} from '../objects/cluster-api.ts'
import type { KubeInput, StoredObject } from '../objects/stored-object.ts'

const CRDS = 'customresourcedefinitions.apiextensions.k8s.io'
const BINDINGS = defineResource<KubeObject & { readonly target: object }>(
  '',
  'v1',
  'pods',
  'Binding',
)

type Outcome = Result<StoredObject, KubeFailure>

export type Mirror = ClusterApi & {
  /** Asks the server itself whether an owner is gone; of a kind that is not known here, it never is. */
  readonly isGone: ConfirmGone
  /** Resolves when the first list of each of these resources is here. */
  synced(resources: readonly ResourceId[]): Promise<void>
  close(): Promise<void>
}

/** Makes a mirror; it watches a resource from the first time that one is asked for. */
export function mirrorCluster(api: KubeApi, logger: Logger): Mirror {
  const types = new Map(BUILT_IN_TYPES.map((type) => [type.id, type]))
  const copies = new Map<ResourceId, Copy>()
  const copyOf = (resource: ResourceId): Copy | undefined => {
    const known = copies.get(resource)
    if (known !== undefined) return known
    const type = types.get(resource) ?? customType(resource)
    if (type === undefined) return undefined
    const made = new Copy(api, type, logger)
    copies.set(resource, made)
    return made
  }
  const customTypes = (): readonly ResourceType[] =>
    [...(copyOf(CRDS)?.objects.values() ?? [])].map(definedResource)
  const customType = (resource: ResourceId): ResourceType | undefined =>
    resource === CRDS ? undefined : customTypes().find((type) => type.id === resource)
  const writing = async (
    resource: ResourceId,
    call: (copy: Copy) => Promise<Result<KubeObject, KubeFailure>>,
  ): Promise<Outcome> => {
    const copy = copyOf(resource)
    if (copy === undefined) return unknownResource(resource)
    const answer = await call(copy)
    return answer.ok ? ok(copy.written(answer.value)) : err(answer.error)
  }

  return {
    get: (resource, namespace, name) => {
      const copy = copyOf(resource)
      if (copy === undefined) return unknownResource(resource)
      const found = copy.objects.get(keyOf(namespace, name))
      return found === undefined ? notFound(copy.type, name) : ok(found)
    },
    list: (resource, options = {}) => {
      const copy = copyOf(resource)
      if (copy === undefined) return unknownResource(resource)
      const matches = parseSelectors(options)
      if (!matches.ok) return refuse(400, 'BadRequest', matches.error)
      return ok([...copy.objects.values()].filter(matches.value))
    },
    create: (resource, namespace, object) =>
      writing(resource, (copy) => api.create(copy.type, wire(object, namespace))),
    update: (resource, namespace, object, subresource) =>
      writing(resource, (copy) =>
        api.update(
          copy.type,
          wire(object, namespace),
          subresource === undefined ? {} : { subresource },
        ),
      ),
    patch: (resource, namespace, name, { type, body, fieldManager }, subresource) =>
      writing(resource, (copy) =>
        api.patch(copy.type, target(namespace, name), body, {
          type,
          ...(fieldManager === undefined ? {} : { fieldManager }),
          ...(subresource === undefined ? {} : { subresource }),
        }),
      ),
    delete: async (resource, namespace, name, options = {}) => {
      const copy = copyOf(resource)
      if (copy === undefined) return unknownResource(resource)
      const { gracePeriodSeconds, propagationPolicy, preconditions } = options
      const answer = await api.delete(copy.type, target(namespace, name), {
        ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
        ...(propagationPolicy === undefined ? {} : { propagationPolicy }),
        ...(preconditions?.uid === undefined ? {} : { uid: preconditions.uid }),
      })
      if (!answer.ok) return err(answer.error)
      return ok(copy.deleted(keyOf(namespace, name), answer.value))
    },
    bindPod: async (namespace, pod, node) => {
      const metadata = { ...target(namespace, pod), name: pod }
      const binding = { metadata, target: { apiVersion: 'v1', kind: 'Node', name: node } }
      const answer = await api.create(BINDINGS, binding, { subresource: 'binding' })
      if (!answer.ok) return err(answer.error)
      return ok(strict(answer.value, 'v1', 'Status'))
    },
    watch: (resource, options, onEvent) =>
      copyOf(resource)?.listen(options, onEvent) ?? (() => undefined),
    isGone: async (owner, namespace) => {
      const type = [...types.values(), ...customTypes()].find(
        (each) => each.kind === owner.kind && groupOf(owner.apiVersion) === each.group,
      )
      const copy = type === undefined ? undefined : copyOf(type.id)
      if (copy === undefined) return false
      const found = await api.get(
        copy.type,
        target(copy.type.namespaced ? namespace : undefined, owner.name),
      )
      return found.ok ? found.value.metadata?.uid !== owner.uid : found.error.kind === 'notFound'
    },
    synced: async (resources) => {
      await Promise.all(resources.flatMap((resource) => copyOf(resource)?.watched.synced ?? []))
    },
    close: async () => {
      await Promise.all([...copies.values()].map((copy) => copy.watched.close()))
    },
  }
}

/** The copy of one resource. */
class Copy {
  readonly type: ResourceType
  readonly objects = new Map<string, StoredObject>()
  readonly watched: ResourceWatch<KubeObject>
  readonly #listeners = new Set<(event: WatchEvent, previous: StoredObject | undefined) => void>()
  /** Uids that a write has removed, until the watch says so, too: older news of them must not bring them back. */
  readonly #removed = new Set<string>()

  constructor(api: KubeApi, type: ResourceType, logger: Logger) {
    this.type = type
    this.watched = watchResource(api, this.type, {
      logger,
      added: (object) => this.#put(this.#whole(object)),
      updated: (_previous, object) => this.#put(this.#whole(object)),
      deleted: (object) => this.#remove(this.#whole(object)),
    })
  }

  /** Takes in what a write answered. */
  written(answer: KubeObject): StoredObject {
    const object = this.#whole(answer)
    if (object.kind === this.type.kind) this.#put(object)
    return object
  }

  /** Takes in what a deletion answered: the object as it goes on for a while, or that it is gone. */
  deleted(key: string, answer: KubeObject): StoredObject {
    const object = this.#whole(answer)
    if (object.kind === this.type.kind && object.metadata.deletionTimestamp !== undefined) {
      this.#put(object)
      return object
    }
    const last = this.objects.get(key)
    if (last === undefined) return object
    this.#removed.add(last.metadata.uid)
    this.#drop(key, last)
    return last
  }

  listen(options: ListOptions, onEvent: (event: WatchEvent) => void): () => void {
    const parsed = parseSelectors(options)
    const matches = parsed.ok ? parsed.value : () => false
    const listener = ({ type, object }: WatchEvent, previous: StoredObject | undefined): void => {
      const wasVisible = previous !== undefined && matches(previous)
      const isVisible = type !== 'DELETED' && matches(object)
      if (isVisible) onEvent({ type: wasVisible ? 'MODIFIED' : 'ADDED', object })
      else if (wasVisible) onEvent({ type: 'DELETED', object })
    }
    for (const object of this.objects.values())
      if (matches(object)) onEvent({ type: 'ADDED', object })
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #put(object: StoredObject): void {
    const { uid, namespace, name } = object.metadata
    if (this.#removed.has(uid)) return
    const key = keyOf(namespace, name)
    const previous = this.objects.get(key)
    if (previous !== undefined && !isNewer(object, previous)) return
    this.objects.set(key, object)
    this.#tell({ type: previous === undefined ? 'ADDED' : 'MODIFIED', object }, previous)
  }

  #remove(object: StoredObject): void {
    const { uid, namespace, name } = object.metadata
    this.#removed.delete(uid)
    const key = keyOf(namespace, name)
    // A successor of the same name, which a write has told of already, stays.
    if (this.objects.get(key)?.metadata.uid === uid) this.#drop(key, object)
  }

  #drop(key: string, last: StoredObject): void {
    const previous = this.objects.get(key)
    this.objects.delete(key)
    this.#tell({ type: 'DELETED', object: last }, previous)
  }

  #tell(event: WatchEvent, previous: StoredObject | undefined): void {
    for (const listener of this.#listeners) listener(event, previous)
  }

  /** Items of a list come without their type. */
  #whole(object: KubeObject): StoredObject {
    return strict(object, apiVersionOf(this.type), this.type.kind)
  }
}

/** Versions of one resource grow with each write; that is all that the lab reads out of them. */
const isNewer = (one: StoredObject, other: StoredObject): boolean =>
  BigInt(one.metadata.resourceVersion) > BigInt(other.metadata.resourceVersion)

const groupOf = (apiVersion: string): string =>
  apiVersion.includes('/') ? (apiVersion.split('/')[0] ?? '') : ''

const keyOf = (namespace: string | undefined, name: string): string => `${namespace ?? ''}/${name}`

const target = (namespace: string | undefined, name: string) =>
  namespace === undefined || namespace === '' ? { name } : { namespace, name }

/** The same object under the stricter type: what a server answers has name, uid and version. */
const strict = (object: KubeObject, apiVersion: string, kind: string): StoredObject =>
  ({ apiVersion, kind, ...object }) as StoredObject

function wire(object: KubeInput, namespace: string | undefined): KubeObject {
  const metadata = { ...object.metadata, ...(namespace === undefined ? {} : { namespace }) }
  return { ...object, metadata }
}

const unknownResource = (resource: ResourceId) =>
  refuse(404, 'NotFound', `the server could not find the resource ${resource}`)
