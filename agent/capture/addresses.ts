// SPDX-License-Identifier: Apache-2.0
// Addresses between text and the 16 bytes the maps hold (IPv4 in its v4-mapped form).

import { isIPv6 } from 'node:net'
import type { IpAddress } from '../../mesh/model/types.ts'
import { addressBytes } from '../../native/libc.ts'

export const ADDRESS_SIZE = 16
const MAPPED_PREFIX = Buffer.from('00000000000000000000ffff', 'hex')

/** The 16 bytes of an address. Throws NativeError when the text is no address. */
export function toMapAddress(address: string): Buffer {
  const bytes = addressBytes(address)
  return bytes.length === ADDRESS_SIZE ? bytes : Buffer.concat([MAPPED_PREFIX, bytes])
}

/** The canonical text of 16 bytes. Hot: once per captured connection. */
export function fromMapAddress(bytes: Buffer): IpAddress {
  if (bytes.compare(MAPPED_PREFIX, 0, MAPPED_PREFIX.length, 0, MAPPED_PREFIX.length) === 0)
    return `${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}` as IpAddress
  return compressIpv6(bytes) as IpAddress
}

/** Whether the text is an IPv6 address (v4-mapped ones are not: they act as IPv4). */
export function isIpv6Address(address: string): boolean {
  return isIPv6(address)
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups (the first of equals) as `::`. */
function compressIpv6(bytes: Buffer): string {
  let bestStart = -1
  let bestLength = 1
  let runStart = 0
  let runLength = 0
  for (let group = 0; group < 8; group += 1) {
    if (bytes.readUInt16BE(group * 2) !== 0) {
      runLength = 0
      continue
    }
    if (runLength === 0) runStart = group
    runLength += 1
    if (runLength > bestLength) {
      bestStart = runStart
      bestLength = runLength
    }
  }
  let text = ''
  for (let group = 0; group < 8; group += 1) {
    if (group === bestStart) {
      text += '::'
      group += bestLength - 1
      continue
    }
    if (text !== '' && !text.endsWith('::')) text += ':'
    text += bytes.readUInt16BE(group * 2).toString(16)
  }
  return text
}
