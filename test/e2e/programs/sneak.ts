// SPDX-License-Identifier: Apache-2.0
// Tries to be served in plaintext by every trick that a process with all rights in its namespace has at connect(): marks, forged and foreign
// source addresses, mapped addresses, data in the SYN. Prints as JSON what came of each: "answered", or what the kernel said.
// Usage: sneak.ts PORT TARGET4 TARGET6 OTHER4 OTHER6 [TRICK ...]; the other is somebody whose address is taken; all tricks, or these.

import koffi from 'koffi'
import { parseIpAddress } from '../../../mesh/model/address.ts'

const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
const SOL_SOCKET = 1
const SO_RCVTIMEO = 20
const SO_SNDTIMEO = 21
const SO_MARK = 36
const IPPROTO_IP = 0
const IPPROTO_IPV6 = 41
const IP_TRANSPARENT = 19
const IPV6_TRANSPARENT = 75
const MSG_FASTOPEN = 0x2000_0000
const MSG_NOSIGNAL = 0x4000
/** What the agent marks its own sockets with. */
const AGENTS_MARK = 0x111
/** What is dropped is waited for no longer; an answer may take a busy machine that long. Seconds. */
const PATIENCE_S = 2n
const REQUEST = Buffer.from('GET / HTTP/1.0\r\n\r\n')

const libc = koffi.load('libc.so.6')
const call = (prototype: string) => libc.func(prototype) as (...args: readonly unknown[]) => number
const socket = call('int socket(int family, int type, int protocol)')
const setsockopt = call(
  'int setsockopt(int fd, int level, int name, const void *value, uint32_t size)',
)
const bind = call('int bind(int fd, const void *address, uint32_t size)')
const connect = call('int connect(int fd, const void *address, uint32_t size)')
const sendto = call(
  'long sendto(int fd, const void *data, size_t size, int flags, const void *address, uint32_t addressSize)',
)
const send = call('long send(int fd, const void *data, size_t size, int flags)')
const recv = call('long recv(int fd, _Out_ void *data, size_t size, int flags)')
const close = call('int close(int fd)')

interface Trick {
  readonly to: string
  readonly from?: string
  readonly fromPort?: number
  readonly mark?: number
  readonly isForged?: boolean
  readonly isMapped?: boolean
  readonly hasEarlyData?: boolean
}

const [portText = '', target4 = '', target6 = '', other4 = '', other6 = '', ...chosen] =
  process.argv.slice(2)
const port = Number(portText)

const TRICKS: Readonly<Record<string, Trick>> = {
  plain4: { to: target4 },
  plain6: { to: target6 },
  mapped: { to: target4, isMapped: true },
  mark4: { to: target4, mark: AGENTS_MARK },
  mark6: { to: target6, mark: AGENTS_MARK },
  earlyData: { to: target4, hasEarlyData: true },
  markedEarlyData: { to: target4, hasEarlyData: true, mark: AGENTS_MARK },
  meshPort: { to: target4, fromPort: 15_008 },
  asOther4: { to: target4, from: other4, isForged: true },
  asOther6: { to: target6, from: other6, isForged: true },
  asOtherMarked: { to: target4, from: other4, isForged: true, mark: AGENTS_MARK },
  asItself4: { to: target4, from: target4, isForged: true },
  asItself6: { to: target6, from: target6, isForged: true },
  asLoopback4: { to: target4, from: '127.0.0.1', isForged: true },
  asLoopback6: { to: target6, from: '::1', isForged: true },
  asListener: { to: target4, from: '127.64.0.1', fromPort: 15_001, isForged: true },
}

function attempt(trick: Trick): string {
  const { to, from, fromPort = 0, mark, isForged, isMapped = false, hasEarlyData } = trick
  const isIpv6 = isMapped || to.includes(':')
  const fd = socket(isIpv6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0)
  const option = (level: number, name: number, value: Buffer): void => {
    if (setsockopt(fd, level, name, value, value.length) < 0)
      throw new Error(said(`option ${name}`))
  }
  try {
    const patience = Buffer.alloc(16)
    patience.writeBigInt64LE(PATIENCE_S, 0)
    for (const name of [SO_RCVTIMEO, SO_SNDTIMEO]) option(SOL_SOCKET, name, patience)
    if (mark !== undefined) option(SOL_SOCKET, SO_MARK, word(mark))
    if (isForged === true)
      option(
        isIpv6 ? IPPROTO_IPV6 : IPPROTO_IP,
        isIpv6 ? IPV6_TRANSPARENT : IP_TRANSPARENT,
        word(1),
      )
    if (from !== undefined || fromPort > 0) {
      const own = socketAddress(from ?? (isIpv6 ? '::' : '0.0.0.0'), fromPort, isMapped)
      if (bind(fd, own, own.length) < 0) return said('bind')
    }
    const there = socketAddress(to, port, isMapped)
    if (hasEarlyData === true) {
      if (sendto(fd, REQUEST, REQUEST.length, MSG_FASTOPEN | MSG_NOSIGNAL, there, there.length) < 0)
        return said('sendto')
    } else {
      if (connect(fd, there, there.length) < 0) return said('connect')
      if (send(fd, REQUEST, REQUEST.length, MSG_NOSIGNAL) < 0) return said('send')
    }
    const answer = Buffer.alloc(4_096)
    const size = recv(fd, answer, answer.length, 0)
    if (size < 0) return said('recv')
    return answer.toString('latin1', 0, size).startsWith('HTTP/') ? 'answered' : `${size} bytes`
  } finally {
    close(fd)
  }
}

function said(what: string): string {
  return `${what}: errno ${koffi.errno()}`
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  return bytes
}

/** struct sockaddr_in or sockaddr_in6. */
function socketAddress(text: string, at: number, isMapped: boolean): Buffer {
  const address = parseIpAddress(text)
  if (address === undefined) throw new Error(`${text} is no address`)
  const isIpv6 = isMapped || address.includes(':')
  const bytes = Buffer.alloc(isIpv6 ? 28 : 16)
  bytes.writeUInt16LE(isIpv6 ? AF_INET6 : AF_INET, 0)
  bytes.writeUInt16BE(at, 2)
  if (!address.includes(':')) {
    if (isIpv6) bytes.fill(0xff, 18, 20)
    bytes.set(address.split('.').map(Number), isIpv6 ? 20 : 4)
  } else
    for (const [part, group] of groupsOf(address).entries())
      bytes.writeUInt16BE(group, 8 + 2 * part)
  return bytes
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): readonly number[] {
  const [head = '', tail] = address.split('::')
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((each) => Number.parseInt(each, 16))
  if (tail === undefined) return groups(head)
  const [before, after] = [groups(head), groups(tail)]
  return [...before, ...new Array<number>(8 - before.length - after.length).fill(0), ...after]
}

const results: Record<string, string> = {}
for (const [name, trick] of Object.entries(TRICKS))
  if (chosen.length === 0 || chosen.includes(name)) results[name] = attempt(trick)
console.log(JSON.stringify(results))
