// SPDX-License-Identifier: Apache-2.0
// How a proxy names itself to the control plane, in the form Istio's control plane also understands.

import { create } from '@bufbuild/protobuf'
import { type Node, NodeSchema } from '../proto/gen/discovery_pb.js'

/** What kind of proxy it is. Istio's control plane decides by it what is asked for. */
export type ProxyRole = 'ztunnel' | 'waypoint'

export interface NodeIdentity {
  readonly role: ProxyRole
  /** The pod address of the proxy itself. */
  readonly address: string
  readonly podName: string
  readonly namespace: string
  readonly nodeName: string
  readonly clusterId: string
  readonly clusterDomain: string
}

/** Writes the node message of a discovery request. */
export function nodeMessage(identity: NodeIdentity): Node {
  const { role, address, podName, namespace, nodeName, clusterId, clusterDomain } = identity
  return create(NodeSchema, {
    id: `${role}~${address}~${podName}.${namespace}~${namespace}.svc.${clusterDomain}`,
    metadata: {
      NAME: podName,
      NAMESPACE: namespace,
      INSTANCE_IPS: address,
      NODE_NAME: nodeName,
      CLUSTER_ID: clusterId,
    },
  })
}
