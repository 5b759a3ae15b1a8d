// SPDX-License-Identifier: Apache-2.0
// What the mesh needs of Nodes and Namespaces: where a node stands and at which addresses, what a namespace wishes for its services.

import type { Namespace, Node } from '../../mesh/kube/resources.ts'
import { SUBZONE_LABEL } from '../../mesh/model/names.ts'
import type { IpAddress, Locality, MeshNode, NodeKey } from '../../mesh/model/types.ts'
import { readWaypointUse, type WaypointUse } from '../gateway-api/waypoint-use.ts'
import { ObjectReader, type Reading } from '../reading/object-reader.ts'
import type { TranslateConfig } from './config.ts'
import type { Origin } from './origin.ts'
import { readTrafficDistribution, type TrafficDistribution } from './traffic-distribution.ts'

const REGION_LABEL = 'topology.kubernetes.io/region'
const ZONE_LABEL = 'topology.kubernetes.io/zone'
/** Host names are resolved by whoever dials them. */
const ADDRESS_TYPES: readonly string[] = ['InternalIP', 'ExternalIP']

export const NOWHERE: Locality = { region: '', zone: '', subzone: '' }

export interface NodeFacts {
  readonly cluster: string
  readonly name: string
  readonly locality: Locality
  readonly addresses: readonly IpAddress[]
  /** Their keys. */
  readonly taints: readonly string[]
}

/** Reads a Node. */
export function readNode(node: Node, { cluster }: Origin): Reading<NodeFacts> {
  const reader = new ObjectReader('Node', node.metadata)
  const labels = reader.texts('metadata.labels', node.metadata?.labels)
  const addresses = reader
    .list('status.addresses', node.status?.addresses)
    .map(({ type, address }, index) =>
      ADDRESS_TYPES.includes(type)
        ? reader.ip(`status.addresses[${index}].address`, address)
        : undefined,
    )
    .filter((address) => address !== undefined)
  const facts: NodeFacts = {
    cluster,
    name: reader.text('metadata.name', node.metadata?.name),
    locality: {
      region: labels.get(REGION_LABEL) ?? '',
      zone: labels.get(ZONE_LABEL) ?? '',
      subzone: labels.get(SUBZONE_LABEL) ?? '',
    },
    addresses: [...new Set(addresses)],
    taints: reader
      .list('spec.taints', node.spec?.taints)
      .map(({ key }, index) => reader.text(`spec.taints[${index}].key`, key)),
  }
  return { facts, problems: reader.problems }
}

/** The node of the mesh, if it can be called. */
export function meshNodesOf(
  config: TranslateConfig,
  { cluster, name, addresses }: NodeFacts,
): readonly (readonly [NodeKey, MeshNode])[] {
  if (addresses.length === 0) return []
  const key = `${cluster}/${name}` as NodeKey
  return [[key, { key, clusterId: cluster, name, network: config.network, addresses }]]
}

export interface NamespaceFacts {
  readonly cluster: string
  readonly name: string
  /** What it wishes for the traffic of its services. */
  readonly trafficDistribution: TrafficDistribution | undefined
  readonly labels: ReadonlyMap<string, string>
  /** What it says of waypoints, for all that is in it. */
  readonly waypointUse: WaypointUse | undefined
}

/** Reads a Namespace. */
export function readNamespace(namespace: Namespace, origin: Origin): Reading<NamespaceFacts> {
  const reader = new ObjectReader('Namespace', namespace.metadata)
  const annotations = reader.texts('metadata.annotations', namespace.metadata?.annotations)
  const trafficDistribution = readTrafficDistribution(reader, annotations, undefined)
  const labels = reader.texts('metadata.labels', namespace.metadata?.labels)
  const name = reader.text('metadata.name', namespace.metadata?.name)
  const facts: NamespaceFacts = {
    cluster: origin.cluster,
    name,
    trafficDistribution,
    labels,
    waypointUse: readWaypointUse(reader, name, labels, annotations, origin),
  }
  return { facts, problems: reader.problems }
}
