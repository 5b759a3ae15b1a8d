// SPDX-License-Identifier: Apache-2.0
// What an agent holds by its name and version, learned from the bytes of its stream: the opening requests of all agents that are as far.

import { fromBinary } from '@bufbuild/protobuf'
import { DeltaDiscoveryResponseSchema } from '../../mesh/proto/gen/discovery_pb.js'
import { nodeMessage } from '../../mesh/xds/node.ts'
import { WILDCARD } from '../../mesh/xds/protocol.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { NODE } from '../../mesh/xds/types/mesh-node.ts'
import { NETWORK } from '../../mesh/xds/types/network-policy.ts'
import { frame } from './simulated-agent.ts'

/** What an agent follows, in the order in which it asks for it (agent/start-discovery.ts). */
export const FOLLOWED = [NODE, NETWORK, AUTHORIZATION, ADDRESS].map(({ typeUrl }) => typeUrl)

const FRAME_HEADER = 5
const IDENTITY = nodeMessage({
  role: 'ztunnel',
  address: '127.0.0.1',
  podName: 'ambit-agent',
  namespace: 'ambit-system',
  nodeName: 'node',
  clusterId: 'Kubernetes',
  clusterDomain: 'cluster.local',
})

export class VersionsHeld {
  readonly #versions = new Map(FOLLOWED.map((typeUrl) => [typeUrl, new Map<string, string>()]))
  #chunks: Buffer[] = []
  #length = 0
  #openings: readonly Buffer[] | undefined

  /** Bytes of a stream, in their order. */
  take(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#length += chunk.length
    for (;;) {
      const size = this.#sizeOfFirst()
      if (size === undefined || this.#length < size) return
      const bytes = Buffer.concat(this.#chunks)
      this.#apply(bytes.subarray(FRAME_HEADER, size))
      this.#chunks = [bytes.subarray(size)]
      this.#length = bytes.length - size
    }
  }

  /** A new stream begins: what is left of the last is nothing. */
  restart(): void {
    this.#chunks = []
    this.#length = 0
  }

  /** The opening request of each type, framed. */
  openings(): readonly Buffer[] {
    this.#openings ??= FOLLOWED.map((typeUrl) =>
      frame({
        node: IDENTITY,
        typeUrl,
        resourceNamesSubscribe: [WILDCARD],
        initialResourceVersions: Object.fromEntries(this.#versions.get(typeUrl) ?? []),
      }),
    )
    return this.#openings
  }

  #sizeOfFirst(): number | undefined {
    if (this.#length < FRAME_HEADER) return undefined
    if ((this.#chunks[0]?.length ?? 0) < FRAME_HEADER) this.#chunks = [Buffer.concat(this.#chunks)]
    return FRAME_HEADER + (this.#chunks[0]?.readUInt32BE(1) ?? 0)
  }

  #apply(message: Buffer): void {
    const { typeUrl, resources, removedResources } = fromBinary(
      DeltaDiscoveryResponseSchema,
      message,
    )
    const versions = this.#versions.get(typeUrl)
    for (const name of removedResources) versions?.delete(name)
    for (const { name, version } of resources) versions?.set(name, version)
    this.#openings = undefined
  }
}
