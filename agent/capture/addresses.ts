// SPDX-License-Identifier: Apache-2.0
// Addresses between text and the 16 bytes the maps hold (IPv4 in its v4-mapped form).

import { ipAddressFromBytes } from '../../mesh/model/address.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { addressBytes } from '../../native/libc.ts'

export const ADDRESS_SIZE = 16
const MAPPED_PREFIX = Buffer.from('00000000000000000000ffff', 'hex')

/** The 16 bytes of an address. Throws NativeError when the text is no address. */
export function toMapAddress(address: string): Buffer {
  return toMapBytes(addressBytes(address))
}

/** The 16 bytes of an address of 4 or 16. */
export function toMapBytes(bytes: Uint8Array): Buffer {
  return bytes.length === ADDRESS_SIZE ? Buffer.from(bytes) : Buffer.concat([MAPPED_PREFIX, bytes])
}

/** The canonical text of the first 16 bytes. Hot: once per captured connection. */
export function fromMapAddress(bytes: Buffer): IpAddress {
  const address = ipAddressFromBytes(bytes.subarray(0, ADDRESS_SIZE))
  if (address === undefined) throw new RangeError('Cannot read an address: fewer than 16 bytes')
  return address
}
