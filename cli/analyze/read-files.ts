// SPDX-License-Identifier: Apache-2.0
// Objects that stand in files and are not applied yet: alone, or in the place of those that the cluster has.

import { type Manifest, readManifests } from '../../lab/machine/manifests.ts'
import { type Finding, type ObjectRef, refName } from './finding.ts'
import {
  ALL_KINDS,
  type AnalysedKind,
  KINDS,
  type Known,
  type Objects,
  objectsOf,
  type RawObject,
  refOf,
  WORKLOAD_KINDS,
} from './objects.ts'
import type { ReadKinds } from './read-cluster.ts'

export interface FileObjects {
  readonly byKind: ReadonlyMap<AnalysedKind, readonly RawObject[]>
  /** FILE:LINE of a field of an object; undefined for what is in no file. */
  readonly where: (object: ObjectRef, field: string) => string | undefined
}

/** Reads a file or directory; kinds that nothing looks at are left out. Throws AMB_BAD_MANIFEST. */
export function readFiles(path: string, defaultNamespace: string): FileObjects {
  const byKind = new Map<AnalysedKind, RawObject[]>()
  const places = new Map<string, Manifest['where']>()
  for (const { apiVersion, kind: text, name, namespace, object, where } of readManifests(path)) {
    const kind = ALL_KINDS.find((each) => each === text)
    // Other groups have kinds of the same names.
    if (kind === undefined || apiVersion.split('/').slice(0, -1).join('/') !== KINDS[kind].group)
      continue
    const inside = KINDS[kind].namespaced ? (namespace ?? defaultNamespace) : undefined
    const metadata = { ...(object['metadata'] as object), name, namespace: inside }
    const placed: RawObject = { ...object, metadata }
    const there = byKind.get(kind)
    if (there === undefined) byKind.set(kind, [placed])
    else there.push(placed)
    places.set(placeKey(refOf(kind, placed)), where)
  }
  return {
    byKind,
    where: (object, field) => places.get(placeKey(object))?.(field),
  }
}

/** Files alone: what they have nothing of is not known. */
export function filesAlone({ byKind }: FileObjects): Objects {
  const known = new Map<AnalysedKind, Known>()
  for (const kind of ALL_KINDS) {
    const objects = byKind.get(kind) ?? []
    if (!KINDS[kind].namespaced && objects.length > 0) known.set(kind, 'all')
    if (KINDS[kind].namespaced)
      known.set(kind, new Set(objects.map((each) => refOf(kind, each).namespace)))
  }
  // Whoever has the Deployments of a namespace in files has its pods.
  const populated = WORKLOAD_KINDS.flatMap((kind) =>
    (byKind.get(kind) ?? []).map((each) => refOf(kind, each).namespace),
  )
  known.set('Pod', new Set(populated))
  return objectsOf(byKind, known)
}

/** The cluster as it would be with the files applied. */
export function withFiles({ byKind, known }: ReadKinds, files: FileObjects): Objects {
  const merged = new Map(byKind)
  for (const [kind, objects] of files.byKind) {
    const byName = new Map(
      [...(merged.get(kind) ?? []), ...objects].map((each) => [refName(refOf(kind, each)), each]),
    )
    merged.set(kind, [...byName.values()])
  }
  return objectsOf(merged, known)
}

/** What the files bring about: what is wrong with their objects, and what was not wrong without them. */
export function broughtBy(
  files: FileObjects,
  before: readonly Finding[],
  after: readonly Finding[],
): readonly Finding[] {
  const known = new Set(before.map(findingKey))
  return after
    .map((each) => {
      const where = files.where(each.object, each.field)
      return where === undefined ? each : { ...each, where }
    })
    .filter((each) => each.where !== undefined || !known.has(findingKey(each)))
}

function placeKey({ kind, namespace, name }: ObjectRef): string {
  return `${kind} ${namespace}/${name}`
}

function findingKey({ code, object, field, what }: Finding): string {
  return [code, placeKey(object), field, what].join('\n')
}
