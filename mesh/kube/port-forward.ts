// SPDX-License-Identifier: Apache-2.0
// A connection to a port of a pod's own loopback, through the API server, as `kubectl port-forward` makes them. The subprotocol is the
// channel protocol, which every API server since 1.8 speaks: binary messages whose first byte is the channel, 0 for bytes and 1 for
// what went wrong; the first message of each channel repeats the port. It knows no half-close: who needs one does not find it here.

import type { ClientRequest } from 'node:http'
import https from 'node:https'
import { Duplex } from 'node:stream'
import { http } from '../node-http.ts'
import { errorMessage } from '../errors.ts'
import { err, ok, type Result } from '../result.ts'
import type { ClusterAccess } from './access.ts'
import { failureOfStatus, failureOfTransport, type KubeFailure } from './failure.ts'
import { PODS, resourcePath } from './resources.ts'
import { webSocketHandshake, WebSocketClient } from './websocket-client.ts'

const PROTOCOL = 'v4.channel.k8s.io'
const CHANNEL = { data: 0, error: 1 } as const
const PORT_BYTES = 2
/** An error's text is for people. */
const LARGEST_ERROR_BYTES = 4 * 1024

export interface ForwardTarget {
  readonly namespace: string
  readonly pod: string
  readonly port: number
}

/** Opens one; the Duplex is the caller's to destroy. What goes wrong in the pod (nobody listens) destroys it with that error. */
export async function portForward(
  access: ClusterAccess,
  { namespace, pod, port }: ForwardTarget,
  deadlineMs: number,
): Promise<Result<Duplex, KubeFailure>> {
  const call = `reach port ${port} of pod ${namespace}/${pod}`
  const path = `${resourcePath(PODS, { namespace, name: pod, subresource: 'portforward' })}?ports=${port}`
  const first = await upgrade(access, call, path, deadlineMs, false)
  // Tokens rotate on disk: a 401 is worth one more try with what is there now.
  return !first.ok && first.error.kind === 'unauthorized'
    ? upgrade(access, call, path, deadlineMs, true)
    : first
}

async function upgrade(
  access: ClusterAccess,
  call: string,
  path: string,
  deadlineMs: number,
  refresh: boolean,
): Promise<Result<Duplex, KubeFailure>> {
  let outgoing: ClientRequest
  const handshake = webSocketHandshake(PROTOCOL)
  try {
    const { headers, agent } = await access.credentials({ refresh })
    const url = new URL(`${access.server.pathname.replace(/\/$/, '')}${path}`, access.server)
    outgoing = (url.protocol === 'https:' ? https : http).request(url, {
      agent,
      headers: { 'user-agent': 'ambit', ...headers, ...handshake.headers },
      signal: AbortSignal.timeout(deadlineMs),
    })
  } catch (thrown) {
    return err(failureOfTransport(call, errorMessage(thrown), 'unauthorized'))
  }
  const { promise, resolve } = Promise.withResolvers<Result<Duplex, KubeFailure>>()
  outgoing.on('error', (thrown) => resolve(err(failureOfTransport(call, thrown, 'unavailable'))))
  outgoing.on('response', (response) => {
    let body = ''
    response.setEncoding('utf8').on('data', (text: string) => {
      body = (body + text).slice(0, LARGEST_ERROR_BYTES)
    })
    response.on('close', () => resolve(err(failureOfStatus(call, response.statusCode ?? 0, body))))
  })
  outgoing.on('upgrade', (response, socket, head) => {
    const refusal = handshake.refusal(response)
    if (refusal === undefined) {
      resolve(ok(new ForwardedPort(socket, head)))
      return
    }
    socket.destroy()
    resolve(err(failureOfTransport(call, refusal, 'unavailable')))
  })
  outgoing.end()
  return promise
}

class ForwardedPort extends Duplex {
  readonly #webSocket: WebSocketClient
  /** Channels that have not repeated the port yet. */
  readonly #silent = new Set<number>([CHANNEL.data, CHANNEL.error])

  constructor(socket: Duplex, head: Buffer) {
    super({ allowHalfOpen: false })
    this.#webSocket = new WebSocketClient(socket, head, {
      onMessage: (message) => this.#onMessage(message),
      onClose: (error) => {
        if (error === undefined) this.push(null)
        else this.destroy(error)
      },
    })
  }

  override _read(): void {
    this.#webSocket.pause(false)
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#webSocket.send(Buffer.concat([Buffer.from([CHANNEL.data]), chunk]), done)
  }

  override _final(done: () => void): void {
    this.#webSocket.close()
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#webSocket.close()
    done(error)
  }

  #onMessage(message: Buffer): void {
    const channel = message[0] ?? CHANNEL.error
    const payload = message.subarray(this.#silent.delete(channel) ? 1 + PORT_BYTES : 1)
    if (payload.length === 0) return
    if (channel === CHANNEL.error) this.destroy(new Error(payload.toString('utf8').trim()))
    else if (!this.push(payload)) this.#webSocket.pause(true)
  }
}
