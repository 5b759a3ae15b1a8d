// SPDX-License-Identifier: Apache-2.0
// A peer that says exactly what a test tells it to, frame by frame, over mutual TLS.

import { once } from 'node:events'
import { connect as tcpConnect } from 'node:net'
import { type TLSSocket, connect } from 'node:tls'
import type { Test } from 'tap'
import { FRAME, PREFACE } from '../../mesh/http2/protocol.ts'
import { HeaderBlockWriter, type HeaderList } from '../../mesh/http2/hpack.ts'
import { clientTlsOptions } from './certs.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'

export interface SeenFrame {
  readonly type: number
  readonly flags: number
  readonly streamId: number
  readonly payload: Buffer
}

export interface RawPeer {
  readonly socket: TLSSocket
  send(...frames: readonly Uint8Array[]): void
  /** Resolves with the next frame that matches; frames that came before are looked at first. */
  frame(matches: (frame: SeenFrame) => boolean): Promise<SeenFrame>
  readonly seen: SeenFrame[]
}

/** Builds one frame. */
export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array = Buffer.alloc(0),
): Buffer {
  const header = Buffer.alloc(9)
  header.writeUIntBE(payload.length, 0, 3)
  header[3] = type
  header[4] = flags
  header.writeUInt32BE(streamId, 5)
  return Buffer.concat([header, payload])
}

/** The block of these fields, in memory of its own. */
export function headerBlock(list: HeaderList): Buffer {
  const block = new HeaderBlockWriter()
  block.write(list)
  return block.bytes.subarray(0, block.length)
}

/** HEADERS with END_HEADERS. */
export function headers(streamId: number, list: HeaderList, flags = 0): Buffer {
  return frame(FRAME.headers, 0x4 | flags, streamId, headerBlock(list))
}

export const CONNECT: HeaderList = [
  [':method', 'CONNECT'],
  [':authority', '10.0.0.1:80'],
]

/** Connects; with `greets` it sends the preface and SETTINGS. */
export async function rawPeer(
  t: Test,
  port: number,
  certificate: WorkloadCertificate,
  greets = true,
  localAddress = '127.0.0.1',
  host = '127.0.0.1',
): Promise<RawPeer> {
  const raw = tcpConnect({ port, host, localAddress })
  const socket = connect({
    ...clientTlsOptions(certificate),
    socket: raw,
  })
  t.teardown(() => {
    socket.destroy()
    raw.destroy()
  })
  await once(socket, 'secureConnect')
  socket.on('error', () => undefined)
  const seen: SeenFrame[] = []
  const watchers = new Set<() => void>()
  let rest: Buffer = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const end = 9 + rest.readUIntBE(0, 3)
      seen.push({
        type: rest[3] ?? 0,
        flags: rest[4] ?? 0,
        streamId: rest.readUInt32BE(5),
        payload: rest.subarray(9, end),
      })
      rest = rest.subarray(end)
    }
    for (const watcher of watchers) watcher()
  })
  if (greets) socket.write(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0)]))
  return {
    socket,
    seen,
    send: (...frames) => void socket.write(Buffer.concat(frames)),
    frame: (matches) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = seen.find(matches)
          if (found === undefined) return
          watchers.delete(look)
          resolve(found)
        }
        watchers.add(look)
        socket.once('close', () => reject(new Error('closed before the frame came')))
        look()
      }),
  }
}

/** The code of a GOAWAY. */
export const goAwayCode = (seen: SeenFrame): number => seen.payload.readUInt32BE(4)
