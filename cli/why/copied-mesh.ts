// SPDX-License-Identifier: Apache-2.0
// A mesh state made again from a dump, with what it remembers.

import { MeshState } from '../../mesh/model/mesh-state.ts'
import { ok, type Result } from '../../mesh/result.ts'
import { decodeMemory } from '../../mesh/xds/wire-memory.ts'
import { decodeMeshState, type WireState } from '../../mesh/xds/wire-state.ts'

/** Makes it of the resources of a dump; the error names what cannot be read. */
export function copiedMesh(
  resources: WireState,
  options: ConstructorParameters<typeof MeshState>[0],
): Result<MeshState, string> {
  const changes = decodeMeshState(resources)
  if (!changes.ok) return changes
  const mesh = new MeshState(options)
  mesh.apply(changes.value)
  if (resources.formerly === undefined) return ok(mesh)
  const memory = decodeMemory(resources.formerly)
  if (!memory.ok) return memory
  mesh.recall(memory.value)
  return ok(mesh)
}
