// SPDX-License-Identifier: Apache-2.0
// The garbage collector: what has lost all its owners goes; foreground and orphan deletions are carried out.

import { FOREGROUND_FINALIZER, ORPHAN_FINALIZER } from '../apiserver/deletion.ts'
import type { ResourceType } from '../../objects/resource-types.ts'
import type { ClusterApi, ConfirmGone, WatchEvent } from '../../objects/cluster-api.ts'
import type { StoredObject } from '../../objects/stored-object.ts'
import { find, isDeleting, problemOf } from './controller.ts'

interface Place {
  readonly resource: string
  readonly namespace: string
  readonly name: string
}

/** Keys of its work queue: `resource|namespace|name`; none of these parts can hold a bar. */
const keyOfPlace = ({ resource, namespace, name }: Place): string =>
  `${resource}|${namespace}|${name}`

function placeOfKey(key: string): Place {
  const [resource = '', namespace = '', name = ''] = key.split('|')
  return { resource, namespace, name }
}

export class GarbageCollector {
  readonly #api: ClusterApi
  readonly #addKey: (key: string) => void
  readonly #confirmGone: ConfirmGone
  /** Where each living object is, by uid. */
  readonly #living = new Map<string, Place>()
  /** Uids of the dependents of an owner's uid. */
  readonly #dependents = new Map<string, Set<string>>()

  constructor(
    api: ClusterApi,
    addKey: (key: string) => void,
    confirmGone: ConfirmGone = () => Promise.resolve(true),
  ) {
    this.#confirmGone = confirmGone
    this.#api = api
    this.#addKey = addKey
  }

  /** Takes note of a change of any object. */
  observe(type: ResourceType, { type: change, object }: WatchEvent): void {
    const { uid, name, namespace = '', ownerReferences = [] } = object.metadata
    const place = { resource: type.id, namespace, name }
    for (const { uid: owner } of ownerReferences) {
      if (change === 'DELETED') this.#dependents.get(owner)?.delete(uid)
      else this.#dependentsOf(owner).add(uid)
    }
    if (change === 'DELETED') {
      this.#living.delete(uid)
      for (const dependent of this.#dependents.get(uid) ?? []) this.#enqueue(dependent)
      this.#dependents.delete(uid)
      // An owner that is going in the foreground may have waited for this one.
      for (const { uid: owner } of ownerReferences) this.#enqueue(owner)
      return
    }
    this.#living.set(uid, place)
    if (ownerReferences.length > 0 || isDeleting(object)) this.#addKey(keyOfPlace(place))
  }

  /** Looks at one object: does it still have an owner, and is it waiting for its dependents? */
  async reconcile(key: string): Promise<string | undefined> {
    const { resource, namespace, name } = placeOfKey(key)
    const object = find(this.#api, resource, namespace === '' ? undefined : namespace, name)
    if (object === undefined) return undefined
    if (isDeleting(object)) return await this.#finishDeletion(resource, object)
    const owners = object.metadata.ownerReferences ?? []
    const isAbandoned = owners.length > 0 && owners.every(({ uid }) => !this.#living.has(uid))
    if (!isAbandoned) return undefined
    for (const owner of owners) {
      if (!(await this.#confirmGone(owner, object.metadata.namespace))) return undefined
    }
    return problemOf(
      await this.#api.delete(resource, object.metadata.namespace, name, {
        propagationPolicy: 'Background',
        preconditions: { uid: object.metadata.uid },
      }),
    )
  }

  #dependentsOf(owner: string): Set<string> {
    let dependents = this.#dependents.get(owner)
    if (dependents === undefined) {
      dependents = new Set()
      this.#dependents.set(owner, dependents)
    }
    return dependents
  }

  #enqueue(uid: string): void {
    const place = this.#living.get(uid)
    if (place !== undefined) this.#addKey(keyOfPlace(place))
  }

  async #finishDeletion(resource: string, object: StoredObject): Promise<string | undefined> {
    const finalizers = object.metadata.finalizers ?? []
    const dependents = [...(this.#dependents.get(object.metadata.uid) ?? [])]
      .map((uid) => this.#living.get(uid))
      .filter((place) => place !== undefined)
    if (finalizers.includes(ORPHAN_FINALIZER)) {
      for (const place of dependents) await this.#releaseFrom(place, object)
      return await this.#removeFinalizer(resource, object, ORPHAN_FINALIZER)
    }
    if (!finalizers.includes(FOREGROUND_FINALIZER)) return undefined
    for (const place of dependents) {
      const dependent = find(this.#api, place.resource, place.namespace, place.name)
      if (dependent !== undefined && !isDeleting(dependent))
        await this.#api.delete(place.resource, place.namespace, place.name, {
          propagationPolicy: 'Foreground',
        })
    }
    const isBlocked = dependents.some((place) => {
      const dependent = find(this.#api, place.resource, place.namespace, place.name)
      return dependent?.metadata.ownerReferences?.some(
        (reference) =>
          reference.uid === object.metadata.uid && reference.blockOwnerDeletion === true,
      )
    })
    return isBlocked
      ? undefined
      : await this.#removeFinalizer(resource, object, FOREGROUND_FINALIZER)
  }

  async #releaseFrom({ resource, namespace, name }: Place, owner: StoredObject): Promise<void> {
    const dependent = find(this.#api, resource, namespace, name)
    const remaining = (dependent?.metadata.ownerReferences ?? []).filter(
      (reference) => reference.uid !== owner.metadata.uid,
    )
    await this.#api.patch(resource, namespace === '' ? undefined : namespace, name, {
      type: 'merge',
      body: { metadata: { ownerReferences: remaining.length === 0 ? null : remaining } },
    })
  }

  async #removeFinalizer(
    resource: string,
    object: StoredObject,
    finalizer: string,
  ): Promise<string | undefined> {
    const { namespace, name, finalizers = [] } = object.metadata
    return problemOf(
      await this.#api.patch(resource, namespace, name, {
        type: 'merge',
        body: { metadata: { finalizers: finalizers.filter((one) => one !== finalizer) } },
      }),
    )
  }
}
