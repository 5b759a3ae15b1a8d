// SPDX-License-Identifier: Apache-2.0
// What serves plain TCP sockets without an object of Node's for each; `native` has it, where it was built. The calls take and give
// numbers, as they cross into C: >= 0, or a negative errno.

/** Who hears of a socket that the engine was given. All of a turn is told in one go; whoever is forgotten meanwhile hears no more. */
export interface SocketListener {
  /** 0, or the errno of what failed. */
  connected(errno: number): void
  /** The chunk is good until the next turn only. */
  read(chunk: Buffer): void
  /** The peer has sent its FIN. */
  ended(): void
  /** There is room again, after a write that was taken in part. */
  writable(): void
  /** The connection is lost; what could be read was told before. It is still to be closed. */
  broken(errno: number): void
  /** Two joined sockets are closed; one of PUMP_ENDS. */
  over(end: number): void
}

/** How two joined sockets ended, by the number that the engine says. */
export const PUMP_ENDS = ['ok', 'clientReset', 'serverReset', 'cut'] as const

export interface SocketServer {
  accepted(fd: number): void
  failed(errno: number): void
}

/** Of one thread. An id is of the socket that it was given for, until close() or until it is over. */
export interface SocketEngine {
  /** Accepts from a listening socket, which is the engine's from now on. Throws. */
  listen(fd: number, server: SocketServer): number
  /** Starts connecting; the fd is the engine's where this gives an id. */
  connect(fd: number, address: string, port: number, listener: SocketListener): number
  /** An accepted socket, to be read and written; the fd is the engine's where this gives an id. */
  stream(fd: number, listener: SocketListener): number
  /** A connected socket, to be read and written. */
  take(id: number, listener: SocketListener): number
  /** Joins the connected socket of `id` (upstream) with an accepted one; the fd is the engine's where this gives 0. */
  join(id: number, fd: number, listener: SocketListener): number
  /** Bytes read of one side of two joined sockets. */
  bytes(id: number, side: 'upstream' | 'downstream'): number
  /** Resets two joined sockets, after what waits unless `isNow`; whether that is over already. */
  cut(id: number, isNow: boolean): boolean
  /** How many of the bytes the kernel took. */
  write(id: number, bytes: Buffer, from: number, to: number): number
  /** Sends the FIN, after all that was taken. */
  end(id: number): void
  pause(id: number, isPaused: boolean): void
  /** Closes whatever it is, but two joined sockets. */
  close(id: number, isReset: boolean): void
  /** Closes a socket that the engine was not given. */
  closeFd(fd: number, isReset: boolean): void
  /** "PORT ADDRESS"; undefined where the socket has none any more. */
  address(fd: number, end: 'local' | 'remote'): string | undefined
}
