// SPDX-License-Identifier: Apache-2.0
// Applies objects and remembers what was there before, so that what fails half-way is taken back: what was made goes, what was changed is as
// it was.

import { isDeepStrictEqual } from 'node:util'
import type { KubeApi, KubeObject } from '../../mesh/kube/index.ts'
import { kubeError } from '../waypoint/read-waypoints.ts'
import type { InstallObject } from './objects.ts'

interface Entry {
  readonly item: InstallObject
  /** Undefined where it was not there. */
  readonly before: KubeObject | undefined
  /** Of what was made. */
  readonly uid: string | undefined
}

/** The owner of the fields that the command sets. */
const FIELD_MANAGER = 'ambit-install'

export class Journal {
  readonly #api: KubeApi
  readonly #entries: Entry[] = []

  constructor(api: KubeApi) {
    this.#api = api
  }

  /** Applies one; gives what that meant. Throws AMB_KUBE_API with the object's name and the server's reason. */
  async apply(item: InstallObject): Promise<'created' | 'changed' | 'unchanged'> {
    const { resource, target, object } = item
    const found = await this.#api.get<KubeObject>(resource, target)
    if (!found.ok && found.error.kind !== 'notFound') throw kubeError(found.error)
    const before = found.ok ? found.value : undefined
    const applied = await this.#api.patch<KubeObject>(resource, target, object, {
      type: 'apply',
      fieldManager: FIELD_MANAGER,
      force: true,
    })
    if (!applied.ok) throw kubeError(applied.error)
    if (before !== undefined && isDeepStrictEqual(asItWas(before), asItWas(applied.value)))
      return 'unchanged'
    const { uid } = applied.value.metadata ?? {}
    this.#entries.push({ item, before, uid: before === undefined ? uid : undefined })
    return before === undefined ? 'created' : 'changed'
  }

  /** Takes everything back, the last first; gives what could not be, with the reason. */
  async rollBack(report: (line: string) => void): Promise<readonly string[]> {
    const left: string[] = []
    for (const { item, before, uid } of this.#entries.toReversed()) {
      const { resource, target, title } = item
      const done =
        before === undefined
          ? await this.#api.delete(resource, target, uid === undefined ? {} : { uid })
          : await this.#api.update(resource, asItWas(before))
      if (done.ok || done.error.kind === 'notFound')
        report(`${title} ${before === undefined ? 'removed' : 'restored'}`)
      else left.push(`${title}: ${done.error.message}`)
    }
    return left
  }
}

/** Without what the server alone says, and whatever version there is by now. */
function asItWas(object: KubeObject): KubeObject {
  const { resourceVersion: _version, managedFields: _fields, ...metadata } = object.metadata ?? {}
  return { ...object, metadata }
}
