// SPDX-License-Identifier: Apache-2.0
// A collector for tests, which reads what it gets by the official definitions (otlp.binpb), and answers as the test says.

import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'
import { createFileRegistry, fromBinary, toJson } from '@bufbuild/protobuf'
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import type { ServerCertificate } from '../../lab/machine/server-certificate.ts'
import type { Signal } from '../../mesh/telemetry/otlp/post.ts'
import { Waiter } from '../support/waiter.ts'

const official = createFileRegistry(
  fromBinary(FileDescriptorSetSchema, readFileSync(new URL('otlp.binpb', import.meta.url))),
)

const MESSAGES = {
  metrics: { package: 'metrics', kind: 'Metrics' },
  logs: { package: 'logs', kind: 'Logs' },
  traces: { package: 'trace', kind: 'Trace' },
} as const

/** What a collector makes of the body of a request, as protobuf's JSON. */
export function decoded(signal: Signal, body: Uint8Array): unknown {
  const { package: part, kind } = MESSAGES[signal]
  const name = `opentelemetry.proto.collector.${part}.v1.Export${kind}ServiceRequest`
  const message = official.getMessage(name)
  if (message === undefined) throw new Error(`${name} is not among the definitions`)
  return toJson(message, fromBinary(message, body))
}

interface Collected {
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly message: unknown
}

export type Answer = (response: ServerResponse, count: number) => void

/** The part of tap that a collector needs to clean up after itself. */
interface TestScope {
  teardown(fn: () => Promise<void> | void): void
}

export interface TestCollector {
  readonly endpoint: URL
  /** In the order of their coming. */
  readonly got: readonly Collected[]
  /** Waits until enough has come. */
  until(holds: () => boolean): Promise<void>
}

/** Listens on loopback; in TLS if there is a certificate. */
export async function startCollector(
  t: TestScope,
  answer: Answer = (response) => response.end(),
  certificate?: ServerCertificate,
): Promise<TestCollector> {
  const got: Collected[] = []
  const waiter = new Waiter()
  const onRequest: RequestListener = (request, response) => {
    const { url: path = '', headers } = request
    void buffer(request).then((packed) => {
      const signal = path.slice(path.lastIndexOf('/') + 1) as Signal
      got.push({ path, headers, message: decoded(signal, gunzipSync(packed)) })
      waiter.poke()
      answer(response, got.length)
    })
  }
  const server =
    certificate === undefined
      ? createServer(onRequest)
      : createTlsServer(
          { cert: certificate.certificatePem, key: certificate.privateKeyPem },
          onRequest,
        )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const bound = server.address()
  const port = typeof bound === 'object' ? bound?.port : 0
  const scheme = certificate === undefined ? 'http' : 'https'
  return {
    got,
    endpoint: new URL(`${scheme}://127.0.0.1:${port}`),
    until: (holds) => waiter.until(holds, () => `requests; there were ${got.length}`),
  }
}
