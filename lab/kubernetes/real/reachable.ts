// SPDX-License-Identifier: Apache-2.0
// The services of a shared cluster as the lab's nodes can reach them: of the endpoints that name a node only those on
// the lab's own, and the API server by the lab's gateway. Pods of other nodes are on networks that the lab is not on.

import { at, records, text } from '../objects/json.ts'
import type { ClusterApi, WatchEvent } from '../objects/cluster-api.ts'
import type { JsonObject, StoredObject } from '../objects/stored-object.ts'
import { API_SERVER_PORT, FABRIC_GATEWAY4, FABRIC_GATEWAY6 } from '../../network/addressing.ts'

const SLICES = 'endpointslices.discovery.k8s.io'
const SERVICE_LABEL = 'kubernetes.io/service-name'

/** The same cluster, with its endpoint slices as they mean something on these nodes. */
export function reachableFrom(
  api: Pick<ClusterApi, 'watch'>,
  nodes: readonly string[],
): Pick<ClusterApi, 'watch'> {
  const own = new Set(nodes)
  return {
    watch: (resource, options, onEvent) =>
      api.watch(resource, options, (event: WatchEvent) =>
        onEvent(
          resource === SLICES ? { ...event, object: reachableSlice(event.object, own) } : event,
        ),
      ),
  }
}

/** The slice with the endpoints that can be reached. */
export function reachableSlice(slice: StoredObject, nodes: ReadonlySet<string>): StoredObject {
  if (isOfApiServer(slice)) return byGateway(slice)
  const endpoints = records(slice.endpoints).filter((endpoint) => {
    const node = text(endpoint.nodeName)
    return node === undefined || nodes.has(node)
  })
  return { ...slice, endpoints }
}

const isOfApiServer = ({ metadata }: StoredObject): boolean =>
  metadata.namespace === 'default' && metadata.labels?.[SERVICE_LABEL] === 'kubernetes'

function byGateway(slice: StoredObject): StoredObject {
  const address = slice.addressType === 'IPv6' ? FABRIC_GATEWAY6 : FABRIC_GATEWAY4
  const ports = records(slice.ports) as readonly JsonObject[]
  return {
    ...slice,
    ports: ports.map((port) => ({ ...port, port: API_SERVER_PORT })),
    endpoints: at(slice, 'endpoints', 'length') === 0 ? [] : [{ addresses: [address] }],
  }
}
