// SPDX-License-Identifier: Apache-2.0
// Addresses as Node's sockets report them, in the mesh's canonical text.

import type { IpAddress, SocketAddress } from '../model/types.ts'

const V4_MAPPED = '::ffff:'

/** undefined when the socket no longer knows its address, i.e. is closed. */
export function socketAddress(
  address: string | undefined,
  port: number | undefined,
): SocketAddress | undefined {
  if (address === undefined || port === undefined) return undefined
  const isMapped = address.startsWith(V4_MAPPED) && address.includes('.')
  const zone = address.indexOf('%')
  const text = isMapped
    ? address.slice(V4_MAPPED.length)
    : zone < 0
      ? address
      : address.slice(0, zone)
  return { address: text as IpAddress, port }
}
