// SPDX-License-Identifier: Apache-2.0
// What the mesh needs of Nodes and Namespaces: where a node stands, what a namespace wishes for its services.

import type { Namespace, Node } from '../../mesh/kube/resources.ts'
import { SUBZONE_LABEL } from '../../mesh/model/names.ts'
import type { Locality } from '../../mesh/model/types.ts'
import { ObjectReader, type Reading } from '../reading/object-reader.ts'
import { readTrafficDistribution, type TrafficDistribution } from './traffic-distribution.ts'

const REGION_LABEL = 'topology.kubernetes.io/region'
const ZONE_LABEL = 'topology.kubernetes.io/zone'

export const NOWHERE: Locality = { region: '', zone: '', subzone: '' }

/** Reads where a Node stands. */
export function readNode(node: Node): Reading<Locality> {
  const reader = new ObjectReader('Node', node.metadata)
  const labels = reader.texts('metadata.labels', node.metadata?.labels)
  const facts = {
    region: labels.get(REGION_LABEL) ?? '',
    zone: labels.get(ZONE_LABEL) ?? '',
    subzone: labels.get(SUBZONE_LABEL) ?? '',
  }
  return { facts, problems: reader.problems }
}

/** Reads what a Namespace wishes for the traffic of its services. */
export function readNamespace(namespace: Namespace): Reading<TrafficDistribution> {
  const reader = new ObjectReader('Namespace', namespace.metadata)
  const annotations = reader.texts('metadata.annotations', namespace.metadata?.annotations)
  const facts = readTrafficDistribution(reader, annotations, undefined)
  return { facts, problems: reader.problems }
}
