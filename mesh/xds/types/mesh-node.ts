// SPDX-License-Identifier: Apache-2.0
// Nodes as resources of discovery. The type is ours: other control planes do not offer it, and others' agents do not ask for it.

import { MESH_NODE } from '../../model/mesh-node.ts'
import type { MeshNode } from '../../model/types.ts'
import { err, ok } from '../../result.ts'
import { excerpt } from '../../telemetry/excerpt.ts'
import type { ResourceType } from '../resource-type.ts'

/** A node has a few addresses; a larger resource is not read. */
const MAX_RESOURCE_BYTES = 64 * 1024

/** Nodes, named by their key. */
export const NODE: ResourceType<MeshNode> = {
  typeUrl: 'type.googleapis.com/ambit.mesh.Node',
  name: ({ key }) => key,
  aliases: () => [],
  encode: (node) => MESH_NODE.encode(node),
  decode: (name, bytes) => {
    const refuse = (field: string, reason: string) =>
      err({ resource: excerpt(name), field: excerpt(field), reason: excerpt(reason) })
    if (bytes.length > MAX_RESOURCE_BYTES)
      return refuse('resource', `has ${bytes.length} bytes, more than ${MAX_RESOURCE_BYTES}`)
    const read = MESH_NODE.decode(bytes)
    if (!read.ok) return refuse(read.error.field || 'resource', read.error.reason)
    return read.value.key === name
      ? ok(read.value)
      : refuse('name', `makes the key "${read.value.key}", not the resource's name`)
  },
}
