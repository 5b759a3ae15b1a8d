// SPDX-License-Identifier: Apache-2.0
// Applies objects and remembers what was there before, so that what fails half-way is taken back: what was made goes, what was changed is as
// it was.

import { isDeepStrictEqual } from 'node:util'
import type { KubeApi, KubeFailure, KubeObject } from '../../mesh/kube/index.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { kubeError } from '../cluster/kube-reads.ts'
import { FIELD_MANAGER, type InstallObject, isApplied } from './objects.ts'
import { isMomentary } from './patient-api.ts'

interface Entry {
  readonly item: InstallObject
  /** Undefined where it was not there. */
  readonly before: KubeObject | undefined
  /** Of what was made; undefined, too, where no answer told whether it was. */
  uid: string | undefined
}

export interface RollBackOptions {
  readonly report: (line: string) => void
  /** Called when something that was made has been removed, before what it stood on is; gives what stays of it. */
  readonly removed?: (item: InstallObject) => Promise<readonly string[]>
}

/** Somebody may write in between, but not for ever. */
const RESTORE_ATTEMPTS = 5

export class Journal {
  readonly #entries: Entry[] = []

  /** Applies one; gives what that meant. Throws AMB_KUBE_API with the object's name and the server's reason. */
  async apply(api: KubeApi, item: InstallObject): Promise<'created' | 'changed' | 'unchanged'> {
    const { resource, target, object } = item
    const found = await api.get<KubeObject>(resource, target)
    if (!found.ok && found.error.kind !== 'notFound') throw kubeError(found.error)
    const before = found.ok ? found.value : undefined
    const entry: Entry = { item, before, uid: undefined }
    // Before it is done: an answer that is lost may be that of a server which has done it.
    this.#entries.push(entry)
    const applied = await api.patch<KubeObject>(resource, target, object, {
      type: 'apply',
      fieldManager: FIELD_MANAGER,
      force: true,
    })
    if (!applied.ok) {
      if (!isMomentary(applied.error)) this.#entries.pop()
      throw kubeError(applied.error)
    }
    if (before === undefined) {
      entry.uid = applied.value.metadata?.uid
      return 'created'
    }
    if (!isDeepStrictEqual(asItWas(before), asItWas(applied.value))) return 'changed'
    this.#entries.pop()
    return 'unchanged'
  }

  /** Takes everything back, the last first; gives what could not be, with the reason. */
  async rollBack(api: KubeApi, options: RollBackOptions): Promise<readonly string[]> {
    const { report, removed = () => Promise.resolve([]) } = options
    const left: string[] = []
    const entries = this.#entries.toReversed()
    for (const [at, entry] of entries.entries()) {
      const { title } = entry.item
      const undone = await (entry.before === undefined
        ? remove(api, entry)
        : restore(api, entry.item, entry.before))
      if (!undone.ok) {
        left.push(`${title}: ${undone.error.message}`)
        // Nobody answers: neither will anybody for the rest.
        if (isMomentary(undone.error)) {
          left.push(...entries.slice(at + 1).map(({ item }) => item.title))
          break
        }
        continue
      }
      if (undone.value !== 'nothing') report(`${title} ${undone.value}`)
      if (undone.value === 'removed') left.push(...(await removed(entry.item)))
    }
    return left
  }
}

type Undone = Result<'removed' | 'restored' | 'nothing', KubeFailure>

async function remove(api: KubeApi, { item, uid }: Entry): Promise<Undone> {
  const found = await api.get(item.resource, item.target)
  if (!found.ok) return found.error.kind === 'notFound' ? ok('nothing') : found
  const current = found.value.metadata
  // One that somebody else has made in its place is theirs.
  if (uid !== undefined && current?.uid !== uid) return ok('nothing')
  if (uid === undefined && !isApplied(found.value)) return ok('nothing')
  const done = await api.delete(item.resource, item.target, {
    propagationPolicy: 'Background',
    ...(current?.uid === undefined ? {} : { uid: current.uid }),
  })
  return done.ok || done.error.kind === 'notFound' ? ok('removed') : done
}

/** By the version that stands there: kinds like PodDisruptionBudget are replaced in no other way. */
async function restore(api: KubeApi, item: InstallObject, before: KubeObject): Promise<Undone> {
  let failure: KubeFailure | undefined
  for (let attempt = 0; attempt < RESTORE_ATTEMPTS; attempt += 1) {
    const found = await api.get<KubeObject>(item.resource, item.target)
    if (!found.ok) return found
    const was = asItWas(before)
    if (isDeepStrictEqual(was, asItWas(found.value))) return ok('nothing')
    const { resourceVersion } = found.value.metadata ?? {}
    const metadata = {
      ...was.metadata,
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    }
    const done = await api.update(item.resource, { ...was, metadata })
    if (done.ok) return ok('restored')
    failure = done.error
    if (failure.kind !== 'conflict') break
  }
  return failure === undefined ? ok('nothing') : err(failure)
}

/** Without what the server alone says, and whatever version there is by now. */
function asItWas(object: KubeObject): KubeObject {
  const {
    resourceVersion: _version,
    managedFields: _fields,
    generation: _generation,
    ...metadata
  } = object.metadata ?? {}
  const { status: _status, ...rest } = object as KubeObject & { readonly status?: unknown }
  return { ...rest, metadata }
}
