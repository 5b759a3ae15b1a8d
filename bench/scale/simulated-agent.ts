// SPDX-License-Identifier: Apache-2.0
// An agent as the controller sees it, and no more: a TLS connection from an address of its own, a token of its own, one delta stream that
// follows what agents follow, acknowledges, and comes again with what it holds. What it is told it forgets, but for the names.

import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
} from 'node:http2'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { create, toBinary } from '@bufbuild/protobuf'
import { Backoff } from '../../mesh/async/backoff.ts'
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
} from '../../mesh/proto/gen/discovery_pb.js'
import { grpcMethod } from '../../mesh/grpc/method.ts'
import { ResponseScanner, type ScannedResponse } from './response-scanner.ts'

const METHOD = grpcMethod(AggregatedDiscoveryService.method.deltaAggregatedResources)
const FRAME_HEADER = 5

export interface SimulatedAgentOptions {
  readonly port: number
  readonly roots: string
  readonly serverName: string
  readonly token: string
  /** Where it calls from, of 127.0.0.0/8: the controller accounts by address. */
  readonly localAddress: string
  /** The opening request of each type, framed; asked anew for each stream, as an agent says what it holds by then. */
  readonly openings: () => readonly Buffer[]
  readonly onResponse: (response: ScannedResponse) => void
  /** Every byte of the stream, for one that keeps what it is told. */
  readonly onBytes?: (chunk: Buffer) => void
  /** A stream that had stood, or could not be had, ended. */
  readonly onEnd: (reason: string) => void
}

/** Keeps one stream, for ever. */
export class SimulatedAgent {
  readonly #options: SimulatedAgentOptions
  readonly #backoff = new Backoff()
  #session: ClientHttp2Session | undefined
  #retry: NodeJS.Timeout | undefined
  #isStopped = false

  constructor(options: SimulatedAgentOptions) {
    this.#options = options
  }

  start(): void {
    const { port, roots, serverName, localAddress, token } = this.#options
    const session = connect(`https://${serverName}`, {
      createConnection: () =>
        connectTls({
          socket: connectTcp({ host: '127.0.0.1', port, localAddress }),
          ca: roots,
          servername: serverName,
          ALPNProtocols: ['h2'],
        }),
      // As grpc-js has it.
      maxSessionMemory: Number.MAX_SAFE_INTEGER,
    })
    this.#session = session
    let reason = 'the connection was closed'
    session.on('error', (error: Error) => (reason = error.message))
    session.once('close', () => this.#ended(reason))
    const stream = session.request({
      [constants.HTTP2_HEADER_METHOD]: 'POST',
      [constants.HTTP2_HEADER_PATH]: METHOD.path,
      'content-type': 'application/grpc',
      te: 'trailers',
      clusterid: 'Kubernetes',
      authorization: `Bearer ${token}`,
    })
    stream.on('error', (error: Error) => (reason = error.message))
    // A refusal has its status in its headers.
    for (const event of ['response', 'trailers'] as const)
      stream.on(event, (headers: IncomingHttpHeaders) => {
        if (headers['grpc-status'] === undefined) return
        reason = `status ${headers['grpc-status']?.toString()}: ${headers['grpc-message']?.toString()}`
      })
    stream.once('end', () => session.destroy())
    stream.once('close', () => session.destroy())
    for (const opening of this.#options.openings()) stream.write(opening)
    this.#follow(stream)
  }

  /** Leaves for good. */
  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#retry)
    this.#session?.destroy()
  }

  #follow(stream: ClientHttp2Stream): void {
    const scanner = new ResponseScanner()
    stream.on('data', (chunk: Buffer) => {
      this.#options.onBytes?.(chunk)
      for (const response of scanner.take(chunk)) {
        this.#backoff.reset()
        const { typeUrl, nonce } = response
        stream.write(frame({ typeUrl, responseNonce: nonce }))
        this.#options.onResponse(response)
      }
    })
  }

  #ended(reason: string): void {
    if (this.#isStopped) return
    this.#options.onEnd(reason)
    this.#retry = setTimeout(() => this.start(), this.#backoff.next())
  }
}

/** A request as it goes into a gRPC stream. */
export function frame(
  request: Partial<Omit<DeltaDiscoveryRequest, '$typeName' | '$unknown'>>,
): Buffer {
  const message = toBinary(
    DeltaDiscoveryRequestSchema,
    create(DeltaDiscoveryRequestSchema, request),
  )
  const framed = Buffer.alloc(FRAME_HEADER + message.length)
  framed.writeUInt32BE(message.length, 1)
  framed.set(message, FRAME_HEADER)
  return framed
}
