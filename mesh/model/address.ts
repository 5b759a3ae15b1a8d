// SPDX-License-Identifier: Apache-2.0
// IP addresses in the one canonical text the mesh compares by: IPv4 dotted, IPv6 by RFC 5952, and an IPv4 address
// that came in an IPv6 coat (::ffff:a.b.c.d, as dual-stack sockets report it) written as the IPv4 address it is.

import { isIPv4, isIPv6 } from 'node:net'

/** An IP address in canonical text: IPv4 dotted, IPv6 compressed lower case; v4-mapped IPv6 is written as IPv4. */
export type IpAddress = string & { readonly __brand: 'IpAddress' }

/** An IP address and TCP port as a socket API takes them. */
export interface SocketAddress {
  readonly address: IpAddress
  readonly port: number
}

const IPV4_BYTES = 4
const IPV6_BYTES = 16
const GROUPS = 8
const HIGHEST_PORT = 65_535

/**
 * Reads an IP address; undefined for anything else, including an address with a zone (`fe80::1%eth0`), which means
 * something only on the host that wrote it.
 *
 * @example parseIpAddress('::FFFF:10.0.0.1') // '10.0.0.1'
 */
export function parseIpAddress(text: string): IpAddress | undefined {
  if (isIPv4(text)) return text as IpAddress
  if (!isIPv6(text) || text.includes('%')) return undefined
  return ipAddressFromGroups(groupsOfText(text))
}

/** Reads an address of 4 or 16 bytes in network order; undefined for any other length. */
export function ipAddressFromBytes(bytes: Uint8Array): IpAddress | undefined {
  if (bytes.length === IPV4_BYTES)
    return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as IpAddress
  if (bytes.length !== IPV6_BYTES) return undefined
  // Hot for IPv4: once per captured connection.
  if (isMapped(bytes)) return `${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}` as IpAddress
  const view = new DataView(bytes.buffer, bytes.byteOffset, IPV6_BYTES)
  return ipAddressFromGroups(
    Array.from({ length: GROUPS }, (_, index) => view.getUint16(index * 2)),
  )
}

/** Writes an address as 4 or 16 bytes in network order. */
export function ipAddressToBytes(address: IpAddress): Uint8Array {
  if (isIpv4Address(address)) return Uint8Array.from(address.split('.'), Number)
  const view = new DataView(new ArrayBuffer(IPV6_BYTES))
  groupsOfText(address).forEach((group, index) => view.setUint16(index * 2, group))
  return new Uint8Array(view.buffer)
}

/** Tells the family of a canonical address. */
export function isIpv4Address(address: IpAddress): boolean {
  return !address.includes(':')
}

/** Whether an address is one that every host has for itself. */
export function isLoopback(address: IpAddress): boolean {
  return address === '::1' || address.startsWith('127.')
}

/** Whether an address means something on its own link only. */
export function isLinkLocal(address: IpAddress): boolean {
  return /^fe[89ab]/.test(address) || address.startsWith('169.254.')
}

/** Whether an address is nobody's in a cluster: unspecified, loopback, link-local, multicast or reserved. */
export function isSpecial(address: IpAddress): boolean {
  if (isLoopback(address) || isLinkLocal(address)) return true
  return isIpv4Address(address)
    ? /^(?:0|22[4-9]|2[345]\d)\./.test(address)
    : address === '::' || address.startsWith('ff')
}

/** 4 or 6: the family of a canonical address, as the calls that make sockets want it. */
export function familyOf(address: IpAddress): 4 | 6 {
  return isIpv4Address(address) ? 4 : 6
}

/**
 * Writes `ip:port`, IPv6 in brackets.
 *
 * @example formatSocketAddress({ address: 'fd00::1', port: 80 }) // '[fd00::1]:80'
 */
export function formatSocketAddress({ address, port }: SocketAddress): string {
  return isIpv4Address(address) ? `${address}:${port}` : `[${address}]:${port}`
}

/** Reads `1.2.3.4:80` or `[fd00::1]:80`, ports from 1; undefined for anything else, names included. */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  const colon = text.lastIndexOf(':')
  if (colon <= 0) return undefined
  const host = text.slice(0, colon)
  const port = portOfDecimal(text.slice(colon + 1))
  if (port === undefined) return undefined
  if (isIPv4(host)) return { address: host as IpAddress, port }
  if (!host.startsWith('[') || !host.endsWith(']')) return undefined
  const bare = host.slice(1, -1)
  const address = isIPv6(bare) ? parseIpAddress(bare) : undefined
  return address === undefined ? undefined : { address, port }
}

/**
 * The address of one end of a socket as Node tells it. A zone is cut off: it means nothing beyond this host. undefined when the
 * socket no longer knows, because it is closed. Hot: twice per accepted connection.
 */
export function socketAddressOf(
  address: string | undefined,
  port: number | undefined,
): SocketAddress | undefined {
  if (address === undefined || port === undefined) return undefined
  const zone = address.indexOf('%')
  const parsed = parseIpAddress(zone < 0 ? address : address.slice(0, zone))
  return parsed === undefined ? undefined : { address: parsed, port }
}

/** Whether the address lies in the network of this many leading bits of the base; false across families. */
export function isInPrefix(address: IpAddress, base: IpAddress, prefixLength: number): boolean {
  if (isIpv4Address(address) !== isIpv4Address(base)) return false
  const left = ipAddressToBytes(address)
  const right = ipAddressToBytes(base)
  let bits = prefixLength
  for (let index = 0; bits > 0; index += 1, bits -= 8) {
    const mask = bits >= 8 ? 0xff : (0xff << (8 - bits)) & 0xff
    if (((left[index] ?? 0) & mask) !== ((right[index] ?? 0) & mask)) return false
  }
  return true
}

/**
 * What stands for whoever is behind an address, given as a socket tells it: an IPv4 address itself, of IPv6 the /64, for any
 * machine has as many addresses as it likes in its own.
 *
 * @example sourceNetwork('2001:db8::1:2:3') // '2001:db8:0:0'
 */
export function sourceNetwork(address: string): string {
  const zone = address.indexOf('%')
  const parsed = parseIpAddress(zone < 0 ? address : address.slice(0, zone))
  if (parsed === undefined) return address
  if (isIpv4Address(parsed)) return parsed
  const [a = 0, b = 0, c = 0, d = 0] = groupsOfText(parsed)
  return `${a.toString(16)}:${b.toString(16)}:${c.toString(16)}:${d.toString(16)}`
}

/** Whether 16 bytes hold an IPv4 address in its IPv6 coat. */
function isMapped(bytes: Uint8Array): boolean {
  for (let index = 0; index < 10; index += 1) if (bytes[index] !== 0) return false
  return bytes[10] === 0xff && bytes[11] === 0xff
}

/** Digits alone: Number() would also take blanks, signs, hexadecimal and exponents. */
function portOfDecimal(text: string): number | undefined {
  if (text.length === 0 || text.length > 5) return undefined
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index)
    if (code < 48 || code > 57) return undefined
  }
  const port = Number(text)
  return port >= 1 && port <= HIGHEST_PORT ? port : undefined
}

/** The eight groups of a valid IPv6 text without zone. */
function groupsOfText(text: string): number[] {
  const [head = '', tail] = text.split('::')
  const leading = groupsOfHalf(head)
  if (tail === undefined) return leading
  const trailing = groupsOfHalf(tail)
  const gap = new Array<number>(GROUPS - leading.length - trailing.length).fill(0)
  return [...leading, ...gap, ...trailing]
}

function groupsOfHalf(half: string): number[] {
  if (half === '') return []
  return half.split(':').flatMap((part) => {
    if (!part.includes('.')) return [Number.parseInt(part, 16)]
    const [a = 0, b = 0, c = 0, d = 0] = part.split('.').map(Number)
    return [(a << 8) | b, (c << 8) | d]
  })
}

function ipAddressFromGroups(groups: readonly number[]): IpAddress {
  const [g0, g1, g2, g3, g4, mapped, high = 0, low = 0] = groups
  if (g0 === 0 && g1 === 0 && g2 === 0 && g3 === 0 && g4 === 0 && mapped === 0xffff)
    return `${high >> 8}.${high & 0xff}.${low >> 8}.${low & 0xff}` as IpAddress
  const { start, length } = longestZeroRun(groups)
  const hex = groups.map((group) => group.toString(16))
  // RFC 5952 4.2.2: a single zero group is not shortened.
  if (length < 2) return hex.join(':') as IpAddress
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}` as IpAddress
}

/** The first longest run of zero groups (RFC 5952 4.2.3). */
function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 }
  let start = 0
  for (let index = 0; index <= groups.length; index += 1) {
    if (groups[index] === 0) continue
    if (index - start > best.length) best = { start, length: index - start }
    start = index + 1
  }
  return best
}
