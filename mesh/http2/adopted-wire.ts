// SPDX-License-Identifier: Apache-2.0
// What carries a connection over TLS whose bytes an engine moves. Node shakes hands and says who the peer is; the first write is Node's,
// too, for when that is through nothing of the handshake is left to be sent, and then the engine takes the connection over. Node's TLS costs a
// stream, a request and two turns for each write, and a buffer for each connection that reads. Hot: bench/hbone-relays.ts watches it.

import type { TLSSocket } from 'node:tls'
import { getSystemErrorName } from 'node:util'
import { socketFd } from '../relay/last-descriptors.ts'
import type { SocketEngine } from '../relay/socket-engine.ts'
import { DeafListener } from '../relay/thin-socket.ts'
import { BriefIntake } from './brief-intake.ts'
import type { IntakeUser } from './intake.ts'
import type { TurnShare } from './turn-budget.ts'
import { type H2Intake, type H2Wire, SocketWire } from './wire.ts'

/** A TLS connection that stands, and the number by which the engine knows it; 0: it does not. */
export interface TlsConnection {
  readonly socket: TLSSocket
  readonly made: number
}

/** Has a TLS connection made at once, and notes which one it is for the engine. */
export function noteMade<Connection>(
  engine: SocketEngine | undefined,
  make: () => Connection,
): { readonly connection: Connection; readonly made: number } {
  engine?.takeMade() // another's
  const connection = make()
  return { connection, made: engine?.takeMade() ?? 0 }
}

/** What carries HTTP/2 over a TLS connection that stands. */
export function tlsWire({ socket, made }: TlsConnection, engine: SocketEngine | undefined): H2Wire {
  return engine === undefined || made === 0
    ? new SocketWire(socket)
    : new AdoptedWire(engine, socket, made)
}

type Written = (error?: Error | null) => void

class AdoptedWire extends DeafListener implements H2Wire {
  readonly #engine: SocketEngine
  readonly #socket: TLSSocket
  readonly #made: number
  /** The engine's; -1 before and after. */
  #id = -1
  #intake: BriefIntake | undefined
  #heard: ((message: string) => void) | undefined
  /** Waits until the kernel has taken what was written. */
  #onWritten: Written | undefined
  #linger: NodeJS.Timeout | undefined
  #isEnding = false
  /** The peer has ended, or is gone. */
  #hasEnded = false

  constructor(engine: SocketEngine, socket: TLSSocket, made: number) {
    super()
    this.#engine = engine
    this.#socket = socket
    this.#made = made
  }

  intake(user: IntakeUser, share: TurnShare | undefined): H2Intake {
    const bringer = {
      pause: (isPaused: boolean): void => {
        if (this.#id >= 0) this.#engine.pause(this.#id, isPaused)
      },
      taken: () => undefined,
    }
    return (this.#intake = new BriefIntake(bringer, user, share))
  }

  write(bytes: Buffer, onWritten?: Written): void {
    if (this.#id < 0) return this.#writeByNode(bytes, onWritten)
    const taken = this.#engine.write(this.#id, bytes, 0, bytes.length)
    if (taken > 0) onWritten?.()
    else if (taken === 0) this.#onWritten = onWritten
    // Not in the middle of what wrote it.
    else setImmediate(() => this.#over(this.#explain(-taken)))
  }

  end(lingerMs: number): void {
    if (this.#isEnding) return
    this.#isEnding = true
    this.#onWritten = undefined
    if (this.#id < 0) this.#socket.end()
    else this.#engine.end(this.#id)
    if (this.#hasEnded) return this.#close()
    if (!this.#socket.destroyed) this.#linger = setTimeout(() => this.#close(), lingerMs)
  }

  /** After all that this turn's readable sockets bring, apps' among them: it is then in one write. */
  schedule(flush: () => void): void {
    this.#engine.schedule(flush)
  }

  onOver(heard: (message: string) => void): void {
    this.#heard = heard
    const socket = this.#socket
    socket.on('error', (error: Error) => this.#over(error.message))
    socket.on('end', () => this.#over('the peer closed the connection'))
    socket.on('close', () => {
      this.#forget(true)
      this.#over('the connection is closed')
    })
  }

  override read(chunk: Buffer): void {
    this.#intake?.receive(chunk)
  }

  override ended(): void {
    this.#over('the peer closed the connection')
  }

  override broken(errno: number): void {
    this.#over(this.#explain(errno))
  }

  override writable(): void {
    const written = this.#onWritten
    this.#onWritten = undefined
    written?.()
  }

  #writeByNode(bytes: Buffer, onWritten: Written | undefined): void {
    this.#socket.write(bytes, (error) => {
      if (!error && !this.#isEnding && this.#id < 0) this.#adopt()
      onWritten?.(error)
    })
  }

  #adopt(): void {
    const socket = this.#socket
    // What Node has opened already.
    const early: Buffer[] = []
    for (let chunk: unknown = socket.read(); chunk instanceof Buffer; chunk = socket.read())
      early.push(chunk)
    const fd = socketFd(socket)
    const finished = socket.getFinished()
    if (fd === undefined || finished === undefined || !stopReading(socket))
      return this.#cannot('its socket is closed')
    const id = this.#engine.adopt(fd, this.#made, finished, this)
    if (id < 0) return this.#cannot(`errno ${-id}`)
    this.#id = id
    for (const chunk of early) this.#intake?.receive(chunk)
  }

  /** Such a connection is of no use: it would be read by nobody. */
  #cannot(why: string): void {
    this.#over(`the connection cannot be taken over: ${why}`)
    this.#close()
  }

  #explain(errno: number): string {
    const fault = this.#id < 0 ? '' : this.#engine.fault(this.#id)
    return fault === ''
      ? `the connection is broken (${getSystemErrorName(-errno)})`
      : `TLS: ${fault}`
  }

  #over(message: string): void {
    this.#hasEnded = true
    if (this.#isEnding) this.#close()
    this.#heard?.(message)
  }

  #close(): void {
    this.#forget(false)
    this.#socket.destroy()
  }

  /** The engine gives it back before Node closes the descriptor, whose number may be another's at once. */
  #forget(isClosed: boolean): void {
    clearTimeout(this.#linger)
    if (this.#id >= 0) this.#engine.close(this.#id, isClosed)
    this.#id = -1
  }
}

/** Has Node read no more of it; false: it is closed. There is no public way: pausing goes on until the stream's buffer is full. */
function stopReading(socket: TLSSocket): boolean {
  const handle: unknown = Reflect.get(socket, '_handle')
  const stop: unknown =
    typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'readStop') : undefined
  if (typeof stop !== 'function') return false
  Reflect.apply(stop, handle, [])
  return true
}
