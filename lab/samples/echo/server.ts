// SPDX-License-Identifier: Apache-2.0
// The workload of the mesh tests in the conformance suite of the Gateway API: answers every call with what it saw of it.
// Flags, as the image's program takes them: --port (HTTP/1 and HTTP/2 without TLS, may be repeated; 8080), --tls (which of those ports are
// behind TLS), --grpc (7070), --tcp (9090). --crt and --key name files of the image, which the lab does not have: the certificate is made
// at start.

import type { IncomingMessage } from 'node:http'
import { createServer as createHttp2Server, type Http2ServerRequest } from 'node:http2'
import { createServer as createTcpServer, type Server, type Socket } from 'node:net'
import { hostname } from 'node:os'
import { createServer as createTlsServer } from 'node:tls'
import { Server as GrpcServer, ServerCredentials } from '@grpc/grpc-js'
import { http } from '../../../mesh/node-http.ts'
import { makeServerCertificate } from '../../machine/server-certificate.ts'
import { readArguments } from './arguments.ts'
import { ECHO_METHOD } from './grpc-echo.ts'
import { report } from './report.ts'

const { flags } = readArguments(process.argv.slice(2))
const name = process.env.HOSTNAME ?? hostname()
const ports = (flag: string, otherwise?: number): readonly number[] =>
  flags.get(flag)?.map(Number) ?? (otherwise === undefined ? [] : [otherwise])

/** What an HTTP/2 client with prior knowledge says first (RFC 9113 3.4). */
const HTTP2_PREFACE = Buffer.from('PRI * HTTP/2.0')

function pairs(raw: readonly string[]): readonly (readonly [string, string])[] {
  return Array.from({ length: raw.length / 2 }, (_, pair) => {
    return [raw[2 * pair] ?? '', raw[2 * pair + 1] ?? ''] as const
  })
}

function answerTo(request: IncomingMessage | Http2ServerRequest): string {
  const authority = request.headers[':authority']
  const host = typeof authority === 'string' ? authority : (request.headers.host ?? '')
  const call = {
    port: request.socket.localPort ?? 0,
    clientAddress: request.socket.remoteAddress ?? '',
    host,
    method: request.method ?? '',
    path: request.url ?? '',
    protocol: `HTTP/${request.httpVersion}`,
    headers: pairs(request.rawHeaders).filter(([field]) => !field.startsWith(':')),
  }
  return report(call, name)
}

const http1 = http.createServer((request, response) => {
  request.resume()
  response.setHeader('content-type', 'text/plain')
  response.end(answerTo(request))
})
const http2 = createHttp2Server((request, response) => {
  request.resume()
  response.setHeader('content-type', 'text/plain')
  response.end(answerTo(request))
})

/** Gives a connection to the server of the version that its client speaks. */
function serve(socket: Socket): void {
  socket.on('error', () => socket.destroy())
  socket.once('readable', () => {
    const first = socket.read() as Buffer | null
    if (first === null) return
    socket.unshift(first)
    const isHttp2 = first.subarray(0, HTTP2_PREFACE.length).equals(HTTP2_PREFACE)
    ;(isHttp2 ? http2 : http1).emit('connection', socket)
  })
}

/** TCP: what came is said back, after who says it. */
function serveTcp(socket: Socket): void {
  socket.on('error', () => socket.destroy())
  socket.write(`Hostname=${name}\n`)
  socket.pipe(socket)
}

function listen(server: Server, port: number, what: string): void {
  server.on('error', (error) => {
    console.error(`cannot listen on port ${port}: ${error.message}`)
    process.exit(1)
  })
  server.listen(port, '::', () => console.log(`${what} on port ${port}`))
}

const tlsPorts = new Set(ports('tls'))
for (const port of new Set(ports('port', 8080))) {
  if (!tlsPorts.has(port)) listen(createTcpServer(serve), port, 'HTTP')
  else {
    const { certificatePem: cert, privateKeyPem: key } = await makeServerCertificate([name])
    const server = createTlsServer({ cert, key, ALPNProtocols: ['h2', 'http/1.1'] }, serve)
    listen(server, port, 'HTTPS')
  }
}
for (const port of ports('tcp', 9090)) listen(createTcpServer(serveTcp), port, 'TCP')
for (const port of ports('grpc', 7070)) {
  const server = new GrpcServer()
  server.addService(
    { echo: ECHO_METHOD },
    {
      echo: (
        call: {
          readonly request: string
          readonly metadata: { toHttp2Headers(): Readonly<Record<string, unknown>> }
          getPeer(): string
          getHost(): string
        },
        done: (error: null, answer: string) => void,
      ) => {
        const headers = Object.entries(call.metadata.toHttp2Headers()).map(
          ([field, value]) => [field, String(value)] as const,
        )
        const seen = {
          port,
          clientAddress: call.getPeer().replace(/:\d+$/, ''),
          host: call.getHost(),
          method: 'POST',
          path: ECHO_METHOD.path,
          protocol: 'GRPC',
          headers,
        }
        done(null, `StatusCode=200\n${report(seen, name)}Echo=${call.request}\n`)
      },
    },
  )
  server.bindAsync(`[::]:${port}`, ServerCredentials.createInsecure(), (error) => {
    if (error !== null) {
      console.error(`cannot listen on port ${port}: ${error.message}`)
      process.exit(1)
    }
    console.log(`gRPC on port ${port}`)
  })
}
process.on('SIGTERM', () => process.exit(0))
