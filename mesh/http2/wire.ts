// SPDX-License-Identifier: Apache-2.0
// What carries a connection: a socket, or a pipe within another connection's tunnel. Each brings its own way to read, to write and to end.

import type { Socket } from 'node:net'
import { Intake, type IntakeUser } from './intake.ts'
import type { TurnShare } from './turn-budget.ts'

/** Reads for one connection, by turns. */
export interface H2Intake {
  /** Memory it holds, in bytes. */
  readonly heldBytes: number
  /** How often something came, in all. */
  readonly allReads: number
  start(): void
  /** Nothing that comes is acted on any more. */
  close(): void
  /** Counts work of the user's in parse(), which ends when there was enough of it for this turn. */
  work(units: number): void
  /** Somebody keeps a slice of what was delivered. */
  keepChunk(): void
  /** How often something came since the last call, which should come every few seconds. */
  takeReads(): number
}

export interface H2Wire {
  /** Once: its reader, which is to be started. */
  intake(user: IntakeUser, share: TurnShare | undefined): H2Intake
  /** Sends bytes that are not touched until `onWritten`; no write comes before that, but for the last. */
  write(bytes: Buffer, onWritten?: (error?: Error | null) => void): void
  /** Half-closes, and cuts what is not closed by the far end so much later. */
  end(lingerMs: number): void
  /** Calls when what comes in this turn has been acted on. */
  schedule(flush: () => void): void
  /** Hears, perhaps more than once, that the far end has closed or is gone. */
  onOver(heard: (message: string) => void): void
}

/** A socket, TLS or plain, that nobody else reads. */
export class SocketWire implements H2Wire {
  readonly #socket: Socket

  constructor(socket: Socket) {
    this.#socket = socket
  }

  intake(user: IntakeUser, share: TurnShare | undefined): H2Intake {
    return new Intake(this.#socket, user, share)
  }

  write(bytes: Buffer, onWritten?: (error?: Error | null) => void): void {
    this.#socket.write(bytes, onWritten)
  }

  end(lingerMs: number): void {
    const socket = this.#socket
    socket.end()
    if (socket.destroyed) return
    const cut = setTimeout(() => socket.destroy(), lingerMs)
    socket.once('close', () => clearTimeout(cut))
  }

  /** After the poll phase: everything that this turn's readable sockets bring is then in one write. */
  schedule(flush: () => void): void {
    setImmediate(flush)
  }

  onOver(heard: (message: string) => void): void {
    const socket = this.#socket
    socket.on('error', (error: Error) => heard(error.message))
    socket.on('end', () => heard('the peer closed the connection'))
    socket.on('close', () => heard('the connection is closed'))
  }
}
