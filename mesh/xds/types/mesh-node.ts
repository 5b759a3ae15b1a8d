// SPDX-License-Identifier: Apache-2.0
// Nodes as resources of discovery. The type is ours: other control planes do not offer it, and others' agents do not ask for it.

import { MESH_NODE } from '../../model/mesh-node.ts'
import { keyedRecord } from './keyed-record.ts'

/** A node has a few addresses; a larger resource is not read. */
const MAX_RESOURCE_BYTES = 64 * 1024

/** Nodes, named by their key. */
export const NODE = keyedRecord(
  'type.googleapis.com/ambit.mesh.Node',
  MESH_NODE,
  MAX_RESOURCE_BYTES,
)
