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
  /** Closes whatever it is, but two joined sockets. Of one that was adopted nothing is closed; `isReset` says that its fd is closed already. */
  close(id: number, isReset: boolean): void
  /** Closes a socket that the engine was not given. */
  closeFd(fd: number, isReset: boolean): void
  /** The number of the TLS connection that the thread has made last, since this was asked before; 0: none. */
  takeMade(): number
  /**
   * Takes over the bytes of a TLS connection that takeMade() has named and that has sent this Finished. Node has shaken hands, neither reads any
   * more nor has anything left to write; the fd stays its own, and close() comes before it is closed. Of such a one write() gives 1 when the
   * kernel has all, and 0 when `writable` follows, before which only last words should be written.
   */
  adopt(fd: number, made: number, finished: Buffer, listener: SocketListener): number
  /** Why TLS has failed, in OpenSSL's words; empty: it has not. */
  fault(id: number): string
  /** Calls when all that this turn brings has been told. */
  schedule(act: () => void): void
  /** "PORT ADDRESS"; undefined where the socket has none any more. */
  address(fd: number, end: 'local' | 'remote'): string | undefined
}
