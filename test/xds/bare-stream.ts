// SPDX-License-Identifier: Apache-2.0
// A stream of discovery whose every message the test itself sends and looks at.

import { create } from '@bufbuild/protobuf'
import { Client, type ClientDuplexStream, Metadata } from '@grpc/grpc-js'
import type { Test } from 'tap'
import { secureChannel } from '../../mesh/grpc/channel.ts'
import { grpcMethod } from '../../mesh/grpc/method.ts'
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
} from '../../mesh/proto/gen/discovery_pb.js'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { Waiter } from '../support/waiter.ts'
import { type Pki, TOKEN } from './support.ts'

/** How its messages are written. */
export const DELTA = grpcMethod(AggregatedDiscoveryService.method.deltaAggregatedResources)

/** Opens one, for addresses unless a message says otherwise. */
export function openStream(test: Test, port: number, pki: Pki) {
  const channel = secureChannel(`127.0.0.1:${port}`, Buffer.from(pki.rootPem), undefined)
  const client = new Client(`127.0.0.1:${port}`, channel.credentials, channel.options)
  const metadata = new Metadata()
  metadata.set('authorization', `Bearer ${TOKEN}`)
  const stream: ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> =
    client.makeBidiStreamRequest(
      DELTA.path,
      DELTA.requestSerialize,
      DELTA.responseDeserialize,
      metadata,
    )
  const responses: DeltaDiscoveryResponse[] = []
  const errors: string[] = []
  const waiter = new Waiter()
  stream.on('data', (response: DeltaDiscoveryResponse) => {
    responses.push(response)
    waiter.poke()
  })
  stream.on('error', (error: Error) => {
    errors.push(error.message)
    waiter.poke()
  })
  test.teardown(() => {
    stream.cancel()
    client.close()
  })
  const send = (request: Partial<Omit<DeltaDiscoveryRequest, '$typeName' | '$unknown'>>) =>
    stream.write(create(DeltaDiscoveryRequestSchema, { typeUrl: ADDRESS.typeUrl, ...request }))
  const received = async (count: number): Promise<DeltaDiscoveryResponse> => {
    await waiter.until(() => responses.length >= count)
    const response = responses[count - 1]
    if (response === undefined) throw new Error('no response')
    return response
  }
  return { send, received, responses, errors, until: (holds: () => boolean) => waiter.until(holds) }
}
