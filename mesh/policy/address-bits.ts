// SPDX-License-Identifier: Apache-2.0
// IP addresses as numbers, to be compared by their leading bits.

import { type IpAddress, ipAddressToBytes } from '../model/address.ts'

/** An address as unsigned words, most significant first; of IPv4 there is one, the others are 0. */
export interface AddressBits {
  readonly isIpv4: boolean
  readonly a: number
  readonly b: number
  readonly c: number
  readonly d: number
}

const WORD = 32

/** Hot: twice per call. */
export function addressBits(address: IpAddress): AddressBits {
  const a = ipv4Number(address)
  if (a >= 0) return { isIpv4: true, a, b: 0, c: 0, d: 0 }
  const bytes = ipAddressToBytes(address)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return {
    isIpv4: false,
    a: view.getUint32(0),
    b: view.getUint32(4),
    c: view.getUint32(8),
    d: view.getUint32(12),
  }
}

/** Whether the first bits are the same; false across families. Hot. */
export function sharesBits(left: AddressBits, right: AddressBits, length: number): boolean {
  return (
    left.isIpv4 === right.isIpv4 &&
    sharesWord(left.a, right.a, length) &&
    sharesWord(left.b, right.b, length - WORD) &&
    sharesWord(left.c, right.c, length - 2 * WORD) &&
    sharesWord(left.d, right.d, length - 3 * WORD)
  )
}

/** The address with all bits after the first ones 0. */
export function leadingBits({ isIpv4, a, b, c, d }: AddressBits, length: number): AddressBits {
  return {
    isIpv4,
    a: leadingOfWord(a, length),
    b: leadingOfWord(b, length - WORD),
    c: leadingOfWord(c, length - 2 * WORD),
    d: leadingOfWord(d, length - 3 * WORD),
  }
}

/** By family, then by number. Hot. */
export function compareBits(left: AddressBits, right: AddressBits): number {
  if (left.isIpv4 !== right.isIpv4) return left.isIpv4 ? -1 : 1
  return left.a - right.a || left.b - right.b || left.c - right.c || left.d - right.d
}

/** The 32 bits of an IPv4 address; -1 for IPv6, which has a colon or a letter before anything that looks like IPv4. */
function ipv4Number(address: string): number {
  let whole = 0
  let part = 0
  for (let index = 0; index < address.length; index += 1) {
    const code = address.charCodeAt(index)
    if (code === 46) {
      whole = whole * 256 + part
      part = 0
    } else if (code >= 48 && code <= 57) part = part * 10 + code - 48
    else return -1
  }
  return whole * 256 + part
}

/** A shift by 32 is one by 0 in JavaScript: both ends of the scale are told apart first. */
function sharesWord(left: number, right: number, length: number): boolean {
  if (length <= 0) return true
  if (length >= WORD) return left === right
  return (left ^ right) >>> (WORD - length) === 0
}

function leadingOfWord(word: number, length: number): number {
  if (length <= 0) return 0
  if (length >= WORD) return word
  return ((word >>> (WORD - length)) << (WORD - length)) >>> 0
}
