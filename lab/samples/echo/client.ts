// SPDX-License-Identifier: Apache-2.0
// The client of the conformance suite's workload: `client URL [--method=M] [-H Name:value]... [--count=N]` makes N calls, one after the
// other on one connection, and prints each answer as the suite reads it, with an empty line after each. Redirects are not followed.
// URL is http:// or grpc://. Exit 1 when a call has no answer.

import { once } from 'node:events'
import type { Agent, IncomingMessage } from 'node:http'
import { credentials, Metadata } from '@grpc/grpc-js'
import { http } from '../../../mesh/node-http.ts'
import { readArguments } from './arguments.ts'
import { ECHO_METHOD, EchoClient } from './grpc-echo.ts'

/** The longest one call may take, as of the program that this stands for. Milliseconds. */
const DEADLINE_MS = 5000

const { flags, rest } = readArguments(process.argv.slice(2))
const [target = ''] = rest
const url = new URL(target)
const count = Number(flags.get('count')?.[0] ?? '1')
const headers = (flags.get('H') ?? []).map((line) => {
  const colon = line.indexOf(':')
  return [line.slice(0, colon), line.slice(colon + 1)] as const
})
const namesHost = headers.some(([name]) => name.toLowerCase() === 'host')
const ownHost = namesHost ? [] : [['Host', url.host] as const]

/** One answer: what every line begins with is its number. */
function print(index: number, answer: readonly string[], body: string): void {
  const lines = [
    ...answer.map((line) => `[${index}] ${line}`),
    ...body
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => `[${index} body] ${line}`),
  ]
  process.stdout.write(`${lines.join('\n')}\n\n`)
}

async function callHttp(index: number, agent: Agent): Promise<void> {
  const call = http.request(target, {
    agent,
    method: flags.get('method')?.[0] ?? 'GET',
    // As they were given: several of one name stay several.
    headers: [...ownHost, ...headers].flat(),
    signal: AbortSignal.timeout(DEADLINE_MS),
  })
  call.end()
  const [response] = (await once(call, 'response')) as [IncomingMessage]
  response.setEncoding('utf8')
  let body = ''
  for await (const piece of response) body += String(piece)
  const raw = response.rawHeaders
  const lines = raw.flatMap((name, at) =>
    at % 2 === 0 ? [`ResponseHeader=${name}:${raw[at + 1] ?? ''}`] : [],
  )
  print(index, [`Url=${target}`, `StatusCode=${response.statusCode ?? 0}`, ...lines], body)
}

async function callGrpc(index: number, client: InstanceType<typeof EchoClient>): Promise<void> {
  const metadata = new Metadata()
  for (const [name, value] of headers) metadata.add(name, value)
  const answer = await new Promise<string>((resolve, reject) => {
    client.makeUnaryRequest(
      ECHO_METHOD.path,
      ECHO_METHOD.requestSerialize,
      ECHO_METHOD.responseDeserialize,
      'conformance',
      metadata,
      { deadline: Date.now() + DEADLINE_MS },
      (error, message) => {
        if (error === null) resolve(message ?? '')
        else reject(error)
      },
    )
  })
  print(index, [`Url=${target}`], answer)
}

async function main(): Promise<void> {
  if (url.protocol === 'grpc:') {
    const client = new EchoClient(url.host, credentials.createInsecure())
    for (let index = 0; index < count; index += 1) await callGrpc(index, client)
    client.close()
  } else {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    for (let index = 0; index < count; index += 1) await callHttp(index, agent)
    agent.destroy()
  }
}

main().catch((error: unknown) => {
  console.error(`cannot call ${target}: ${error instanceof Error ? error.message : String(error)}`)
  process.exit(1)
})
