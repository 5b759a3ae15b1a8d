// SPDX-License-Identifier: Apache-2.0
// An app and a client of gRPC for pods of a lab. `serve PORT VERSION` answers `shop.Prices/Quote` with its version, and
// refuses `shop.Prices/Haggle` with FAILED_PRECONDITION; `call HOST:PORT METHOD` prints answer, status and trailers as JSON.

import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServiceDefinition,
  status,
} from '@grpc/grpc-js'
import { asIs, unaryMethod } from '../../support/raw-grpc.ts'

const CALL_MS = 20_000

const PRICES: ServiceDefinition = {
  quote: unaryMethod('/shop.Prices/Quote'),
  haggle: unaryMethod('/shop.Prices/Haggle'),
}

function serve(port: string, version: string): void {
  const server = new Server()
  server.addService(PRICES, {
    quote: (_: unknown, done: sendUnaryData<Buffer>) => {
      const trailer = new Metadata()
      trailer.set('x-version', version)
      done(null, Buffer.from(version), trailer)
    },
    haggle: (_: unknown, done: sendUnaryData<Buffer>) =>
      done({ code: status.FAILED_PRECONDITION, details: `${version} does not haggle` }),
  })
  server.bindAsync(`[::]:${port}`, ServerCredentials.createInsecure(), (error) => {
    if (error !== null) throw error
  })
}

function call(address: string, method: string): void {
  const client = new Client(address, credentials.createInsecure())
  let answer = ''
  const made = client.makeUnaryRequest(
    method,
    asIs,
    asIs,
    Buffer.from('an apple'),
    { deadline: Date.now() + CALL_MS },
    (_, value) => {
      answer = value?.toString() ?? ''
    },
  )
  made.on('status', ({ code, details, metadata }) =>
    setImmediate(() => {
      console.log(JSON.stringify({ answer, code, details, version: metadata.get('x-version') }))
      client.close()
    }),
  )
}

const [what, first = '', second = ''] = process.argv.slice(2)
if (what === 'serve') serve(first, second)
else call(first, second)
