// SPDX-License-Identifier: Apache-2.0
// One node of a cluster, as far as callers need it: its addresses, at which node ports are served. A type of ours, not Istio's.

import type { IpAddress } from './address.ts'
import { list, single, TEXT } from './codec/kind.ts'
import { derived, field, record } from './codec/record.ts'
import { IP } from './gateway.ts'

/** Key of a node, `<cluster>/<name>`. */
export type NodeKey = string & { readonly __brand: 'NodeKey' }

export interface MeshNode {
  readonly key: NodeKey
  readonly clusterId: string
  /** As workloads name it in their `node`. */
  readonly name: string
  readonly network: string
  /** Internal and external ones. */
  readonly addresses: readonly IpAddress[]
}

export const MESH_NODE = record<MeshNode>({
  key: derived(
    '' as NodeKey,
    ({ clusterId, name }: MeshNode) => `${clusterId}/${name}` as NodeKey,
    { dump: () => ({}) },
  ),
  clusterId: field('cluster_id', 1, single(TEXT), { isShared: true }),
  name: field('name', 2, single(TEXT), { isRequired: true, isShared: true }),
  network: field('network', 3, single(TEXT), { isShared: true }),
  addresses: field('addresses', 4, list(IP)),
})
