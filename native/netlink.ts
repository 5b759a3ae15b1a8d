// SPDX-License-Identifier: Apache-2.0
// The frame of rtnetlink messages: requests of attributes, answers of one message or a whole dump. What they mean is
// elsewhere (rtnetlink.ts, links.ts). Sockets come from openNetlinkSocket() and keep speaking for their namespace.

import { constants } from 'node:os'
import koffi from 'koffi'
import { NativeError } from './error.ts'

// linux/netlink.h
const NLM_F_REQUEST = 0x1
const NLM_F_DUMP = 0x300
const NLM_F_DUMP_INTR = 0x10
const NLMSG_DONE = 3
const NLMSG_ERROR = 2
const NLMSG_HEADER = 16
const ATTRIBUTE_HEADER = 4
/** Flags on an attribute's type: nested, network byte order. */
const ATTRIBUTE_TYPE = 0x3fff
/** A dump comes in datagrams of at most this size, and every single answer fits too. */
const ANSWER_SIZE = 32_768
/** Devices come and go while they are listed: the kernel says so, and a list is then asked for again. */
const DUMP_ATTEMPTS = 5

export interface NetlinkMessage {
  readonly type: number
  readonly body: Buffer
}

type Transfer = (fd: number, data: Buffer, length: number, flags: number) => number
interface Calls {
  readonly send: Transfer
  readonly recv: Transfer
}
let calls: Calls | undefined

function loadCalls(): Calls {
  if (calls !== undefined) return calls
  const libc = koffi.load('libc.so.6')
  calls = {
    send: libc.func('long send(int fd, const void *data, size_t length, int flags)') as Transfer,
    recv: libc.func('long recv(int fd, void *data, size_t length, int flags)') as Transfer,
  }
  return calls
}

/** An attribute to send: 32 bits in host order, or bytes as they are. */
export type Attribute = readonly [type: number, value: number | Uint8Array]

/** Builds a request of a family header and attributes. */
export function request(
  type: number,
  flags: number,
  header: Uint8Array,
  attributes: readonly Attribute[],
): Buffer {
  const parts: Uint8Array[] = [header]
  for (const [attribute, value] of attributes) {
    const bytes = typeof value === 'number' ? Buffer.alloc(4) : Buffer.from(value)
    if (typeof value === 'number') bytes.writeUInt32LE(value)
    const size = ATTRIBUTE_HEADER + bytes.length
    const part = Buffer.alloc(align(size))
    part.writeUInt16LE(size, 0)
    part.writeUInt16LE(attribute, 2)
    part.set(bytes, ATTRIBUTE_HEADER)
    parts.push(part)
  }
  const size = NLMSG_HEADER + parts.reduce((sum, { length }) => sum + length, 0)
  const head = Buffer.alloc(NLMSG_HEADER)
  head.writeUInt32LE(size, 0)
  head.writeUInt16LE(type, 4)
  head.writeUInt16LE(NLM_F_REQUEST | flags, 6)
  return Buffer.concat([head, ...parts])
}

/** Sends a request and reads its one answer; rtnetlink has answered when send() returns. */
export function exchange(fd: number, message: Buffer, what: string): NetlinkMessage {
  transmit(fd, message, what)
  const { messages } = readMessages(receive(fd, what))
  const [answer] = messages
  if (answer === undefined) throw new NativeError('recv(rtnetlink)', constants.errno.EPROTO, what)
  return answer
}

/** Sends a request that is answered by an object; throws the kernel's refusal. */
export function query(fd: number, message: Buffer, what: string): NetlinkMessage {
  const answer = exchange(fd, message, what)
  const errno = errnoOf(answer)
  if (errno !== undefined) throw new NativeError('rtnetlink', errno, what)
  return answer
}

/**
 * Asks for everything of a kind. Throws the kernel's refusal. No more than about `most` are read, where that is given: what
 * is listed is another's to make. The rest of the answer stays in the socket, which is then good for closing only.
 */
export function dump(
  fd: number,
  type: number,
  header: Uint8Array,
  attributes: readonly Attribute[],
  what: string,
  most = Number.POSITIVE_INFINITY,
): readonly NetlinkMessage[] {
  for (let attempt = 1; ; attempt += 1) {
    transmit(fd, request(type, NLM_F_DUMP, header, attributes), what)
    const all: NetlinkMessage[] = []
    let isTorn = false
    for (let isLast = false; !isLast; ) {
      const datagram = receive(fd, what)
      const read = readMessages(datagram)
      isLast = read.isLast || datagram.length === 0
      isTorn ||= read.isTorn
      for (const message of read.messages) {
        const errno = errnoOf(message)
        if (errno !== undefined) throw new NativeError('rtnetlink', errno, what)
        all.push(message)
      }
      if (all.length >= most) return all
    }
    if (!isTorn || attempt === DUMP_ATTEMPTS) return all
  }
}

/** The kernel's answer that is no object: 0 acknowledges. Undefined for an object. */
export function errnoOf({ type, body }: NetlinkMessage): number | undefined {
  return type === NLMSG_ERROR ? -body.readInt32LE(0) : undefined
}

/** The attributes behind a message's family header, or inside a nested attribute. */
export function attributesOf(body: Buffer, headerSize = 0): ReadonlyMap<number, Buffer> {
  const found = new Map<number, Buffer>()
  for (let at = align(headerSize); at + ATTRIBUTE_HEADER <= body.length; ) {
    const length = body.readUInt16LE(at)
    if (length < ATTRIBUTE_HEADER || at + length > body.length) break
    const type = body.readUInt16LE(at + 2) & ATTRIBUTE_TYPE
    found.set(type, body.subarray(at + ATTRIBUTE_HEADER, at + length))
    at += align(length)
  }
  return found
}

/** Reads one datagram. `isTorn`: what was listed changed while it was. */
export function readMessages(datagram: Buffer): {
  readonly messages: readonly NetlinkMessage[]
  readonly isLast: boolean
  readonly isTorn: boolean
} {
  const messages: NetlinkMessage[] = []
  let isTorn = false
  for (let at = 0; at + NLMSG_HEADER <= datagram.length; ) {
    const length = datagram.readUInt32LE(at)
    const type = datagram.readUInt16LE(at + 4)
    if (length < NLMSG_HEADER || at + length > datagram.length) break
    if ((datagram.readUInt16LE(at + 6) & NLM_F_DUMP_INTR) !== 0) isTorn = true
    if (type === NLMSG_DONE) return { messages, isLast: true, isTorn }
    messages.push({ type, body: datagram.subarray(at + NLMSG_HEADER, at + length) })
    if (type === NLMSG_ERROR) return { messages, isLast: true, isTorn }
    at += align(length)
  }
  return { messages, isLast: false, isTorn }
}

function transmit(fd: number, message: Buffer, what: string): void {
  if (loadCalls().send(fd, message, message.length, 0) < 0)
    throw new NativeError('send(rtnetlink)', koffi.errno(), what)
}

function receive(fd: number, what: string): Buffer {
  const answer = Buffer.alloc(ANSWER_SIZE)
  const length = loadCalls().recv(fd, answer, answer.length, 0)
  if (length < 0) throw new NativeError('recv(rtnetlink)', koffi.errno(), what)
  return answer.subarray(0, length)
}

function align(length: number): number {
  return (length + 3) & ~3
}
