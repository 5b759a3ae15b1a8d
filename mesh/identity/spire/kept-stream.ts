// SPDX-License-Identifier: Apache-2.0
// One stream of messages from SPIRE, opened again when whoever uses it says so, and given up when its first message does not come. When to
// try again is the user's affair: it knows what depends on it.

import {
  type ClientReadableStream,
  Metadata,
  type MethodDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import type { Clock } from '../clock.ts'
import type { CaFailure } from '../types.ts'
import type { SocketClient } from './socket.ts'

/** A program of the same node answers at once, or hangs. */
const FIRST_MESSAGE_WITHIN_MS = 10_000

export interface KeptStreamOptions<Request, Response> {
  readonly socket: SocketClient
  readonly method: MethodDefinition<Request, Response>
  /** Made anew for each opening. */
  readonly request: () => Request
  readonly headers?: Readonly<Record<string, string>>
  /** What it means that it is refused, before SPIRE's own words. */
  readonly refused: string
  readonly clock: Clock
  readonly onMessage: (message: Response) => void
  /** It is over, or never began; nothing comes until it is opened again. */
  readonly onEnd: (failure: CaFailure) => void
}

/** Server streaming. */
export class KeptStream<Request, Response> {
  readonly #options: KeptStreamOptions<Request, Response>
  #call: ClientReadableStream<Response> | undefined
  #cancelDeadline: (() => void) | undefined
  #cancelTimer: (() => void) | undefined
  /** When it is opened again; undefined where it is not to be. */
  #openAtMs: number | undefined

  constructor(options: KeptStreamOptions<Request, Response>) {
    this.#options = options
  }

  /** Opens it, in the place of what was open. */
  open(): void {
    this.close()
    const { socket, method, request, headers, clock } = this.#options
    const client = socket.client()
    const metadata = new Metadata()
    for (const [name, value] of Object.entries(headers ?? {})) metadata.set(name, value)
    const call = client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request(),
      metadata,
    )
    this.#call = call
    const end = (failure: CaFailure): void => {
      if (this.#call !== call) return
      this.#leave()
      socket.drop(client)
      this.#options.onEnd(failure)
    }
    call.on('data', (message: Response) => {
      if (this.#call !== call) return
      this.#cancelDeadline?.()
      this.#options.onMessage(message)
    })
    call.on('error', (error: ServiceError) => end(this.#failureOf(error)))
    call.on('end', () => end(this.#unavailable('SPIRE ended the stream')))
    this.#cancelDeadline = clock.after(FIRST_MESSAGE_WITHIN_MS, () =>
      end(this.#unavailable(`no answer within ${FIRST_MESSAGE_WITHIN_MS} ms`)),
    )
  }

  /** Opens it after so long; what is open stays so until then. */
  openAfter(delayMs: number): void {
    const { clock } = this.#options
    this.#cancelTimer?.()
    this.#openAtMs = clock.now() + delayMs
    this.#cancelTimer = clock.after(delayMs, () => this.open())
  }

  /** Brings that nearer where nothing is open: what is may bring its message any moment. Never puts it off. */
  hasten(delayMs: number): void {
    if (this.#call !== undefined || this.#openAtMs === undefined) return
    if (this.#options.clock.now() + delayMs < this.#openAtMs) this.openAfter(delayMs)
  }

  close(): void {
    this.#cancelTimer?.()
    this.#openAtMs = undefined
    this.#leave()
  }

  #leave(): void {
    this.#cancelDeadline?.()
    const call = this.#call
    this.#call = undefined
    call?.cancel()
  }

  #failureOf({ code, details }: ServiceError): CaFailure {
    // grpc-js ends with a note on the resolution of names, of which a socket's path has none.
    const said = `${status[code] ?? code}: ${details.replace(/\.? *Resolution note: *$/, '')}`
    switch (code) {
      case status.PERMISSION_DENIED:
      case status.UNAUTHENTICATED:
        return { kind: 'denied', message: `${this.#options.refused} (${said})` }
      case status.INVALID_ARGUMENT:
      case status.UNIMPLEMENTED:
        return { kind: 'invalid', message: this.#unavailable(said).message }
      default:
        return this.#unavailable(said)
    }
  }

  #unavailable(reason: string): CaFailure {
    const { socket } = this.#options.socket
    return { kind: 'unavailable', message: `SPIRE at ${socket} cannot be asked: ${reason}` }
  }
}
