// SPDX-License-Identifier: Apache-2.0
// A mesh state made again from a dump, with what it remembers.

import { MeshState } from '../../mesh/model/mesh-state.ts'
import { ok, type Result } from '../../mesh/result.ts'
import { decodeMemory, type WireMemory } from '../../mesh/xds/wire-memory.ts'
import { decodeMeshState, type WireState } from '../../mesh/xds/wire-state.ts'

/** What of a dump it is made of. */
export interface DumpedMesh {
  readonly resources: WireState
  /** Dumps of before lack it. */
  readonly formerly?: WireMemory
}

/** Makes it; the error names what cannot be read. */
export function copiedMesh(
  { resources, formerly }: DumpedMesh,
  options: ConstructorParameters<typeof MeshState>[0],
): Result<MeshState, string> {
  const changes = decodeMeshState(resources)
  if (!changes.ok) return changes
  const mesh = new MeshState(options)
  mesh.apply(changes.value)
  if (formerly === undefined) return ok(mesh)
  const memory = decodeMemory(formerly)
  if (!memory.ok) return memory
  mesh.recall(memory.value)
  return ok(mesh)
}
