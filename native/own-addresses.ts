// SPDX-License-Identifier: Apache-2.0
// The addresses of a namespace's devices, as rtnetlink tells them.

import { attributesOf, dump, type NetlinkMessage } from './netlink.ts'

// linux/rtnetlink.h, linux/if_addr.h
const RTM_NEWADDR = 20
const RTM_GETADDR = 22
const ADDRESS_HEADER = 8
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const IFA_FLAGS = 8
const IFA_F_DADFAILED = 0x08
const IFA_F_DEPRECATED = 0x20
/** An address that others may call and that calls others: neither loopback's nor one of a link alone. */
const RT_SCOPE_LINK = 253
/** More are not read: whoever makes addresses by the thousand in a pod shall not keep the agent busy. */
const MOST_ADDRESSES = 512

/** An address of a device. Plain data: it crosses a thread border. */
export interface OwnAddress {
  /** 4 or 16 bytes in network order. */
  readonly bytes: Uint8Array
  /** Of the network that it is on; that of the address alone where its peer is named. */
  readonly prefixLength: number
  /** Index of its device. */
  readonly interface: number
  /** New connections are not to be made from it. */
  readonly isDeprecated: boolean
}

/** Lists the addresses that reach further than the pod itself or one of its links. Throws NativeError. */
export function listAddresses(netlinkFd: number): readonly OwnAddress[] {
  const header = Buffer.alloc(ADDRESS_HEADER)
  const messages = dump(netlinkFd, RTM_GETADDR, header, [], 'list addresses', MOST_ADDRESSES)
  return messages.slice(0, MOST_ADDRESSES).flatMap((message) => readAddress(message) ?? [])
}

/** Reads an RTM_NEWADDR message; undefined for whatever else, and for what reaches no further than a link. */
function readAddress({ type, body }: NetlinkMessage): OwnAddress | undefined {
  if (type !== RTM_NEWADDR || body.length < ADDRESS_HEADER) return undefined
  const attributes = attributesOf(body, ADDRESS_HEADER)
  const far = attributes.get(IFA_ADDRESS)
  const own = attributes.get(IFA_LOCAL) ?? far
  const flags = attributes.get(IFA_FLAGS)?.readUInt32LE() ?? body[2] ?? 0
  if (own === undefined || (own.length !== 4 && own.length !== 16)) return undefined
  if ((body[3] ?? 0) >= RT_SCOPE_LINK || (flags & IFA_F_DADFAILED) !== 0) return undefined
  const isPointToPoint = far !== undefined && !far.equals(own)
  return {
    bytes: Uint8Array.from(own),
    prefixLength: isPointToPoint ? own.length * 8 : (body[1] ?? 0),
    interface: body.readUInt32LE(4),
    isDeprecated: (flags & IFA_F_DEPRECATED) !== 0,
  }
}
