// SPDX-License-Identifier: Apache-2.0
// A call in the words that policies ask about: worked out once a call, however many rules are asked.

import { type IpAddress, ipAddressToBytes } from '../model/address.ts'
import type { PolicyCall } from './types.ts'

const SCHEME = 'spiffe://'
const NAMESPACE_PART = '/ns/'
const ACCOUNT_PART = '/sa/'

export interface CallFacts {
  /** Without `spiffe://`; empty without an identity, and no identity is empty. */
  readonly principal: string
  /** Of the identity; empty without one, or when it is not of the mesh's form. */
  readonly namespace: string
  readonly serviceAccount: string
  readonly source: AddressBits
  readonly destination: AddressBits
  readonly port: number
}

/** An address as numbers: its first word, and for IPv6 the other three (unsigned, most significant first). */
export interface AddressBits {
  readonly isIpv4: boolean
  readonly a: number
  readonly b: number
  readonly c: number
  readonly d: number
}

/** Hot: once per call; the bench `admit` watches it. */
export function factsOf(call: PolicyCall): CallFacts {
  const { address, port } = call.destination
  const identity = call.identity ?? ''
  // An identity of another scheme is nobody that a policy can name: taken for one, it could be made to look like anybody.
  const principal = identity.startsWith(SCHEME) ? identity.slice(SCHEME.length) : ''
  const atNamespace = principal.indexOf(NAMESPACE_PART)
  const from = atNamespace + NAMESPACE_PART.length
  const atAccount = atNamespace < 0 ? -1 : principal.indexOf(ACCOUNT_PART, from)
  const isWhole = atAccount >= 0
  return {
    principal,
    namespace: isWhole ? principal.slice(from, atAccount) : '',
    serviceAccount: isWhole ? principal.slice(atAccount + ACCOUNT_PART.length) : '',
    source: addressBits(call.source),
    destination: addressBits(address),
    port,
  }
}

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

/** The 32 bits of an IPv4 address; -1 for IPv6. */
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

/** Whether the first bits are the same; false across families. */
export function sharesBits(left: AddressBits, right: AddressBits, length: number): boolean {
  if (left.isIpv4 !== right.isIpv4) return false
  return (
    sharesWord(left.a, right.a, length) &&
    sharesWord(left.b, right.b, length - 32) &&
    sharesWord(left.c, right.c, length - 64) &&
    sharesWord(left.d, right.d, length - 96)
  )
}

/** A shift by 32 is one by 0 in JavaScript: both ends of the scale are told apart first. */
function sharesWord(left: number, right: number, length: number): boolean {
  if (length <= 0) return true
  if (length >= 32) return left === right
  return (left ^ right) >>> (32 - length) === 0
}
