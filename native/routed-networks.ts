// SPDX-License-Identifier: Apache-2.0
// Where the routes of a namespace lead, of a family in which they do not lead everywhere, as rtnetlink tells.

import { addressBytes, closeFd } from './libc.ts'
import { routeTo } from './links.ts'
import { attributesOf, dump, type NetlinkMessage } from './netlink.ts'
import { openNetlinkSocket } from './socket-spec.ts'

// linux/rtnetlink.h
const RTM_NEWROUTE = 24
const RTM_GETROUTE = 26
const ROUTE_HEADER = 12
const RTA_DST = 1
const RTN_UNICAST = 1
const AF = { 4: 2, 6: 10 } as const
/** Addresses for documentation: whoever has a route to them has one to everywhere. */
const SOMEWHERE = { 4: addressBytes('192.0.2.1'), 6: addressBytes('2001:db8::1') } as const
/** More are not read: whoever makes routes by the thousand in a pod shall not keep the agent busy. */
const MOST_ROUTES = 512

/** A network that a route leads to. Plain data: it crosses a thread border. */
export interface RoutedNetwork {
  /** 4 or 16 bytes in network order. */
  readonly bytes: Uint8Array
  readonly prefixLength: number
}

/** All that can be reached of a family that leads not everywhere; a family that is not named may lead anywhere. */
export type RoutedNetworks = Readonly<Partial<Record<4 | 6, readonly RoutedNetwork[]>>>

/**
 * The networks that the namespace of a netlink socket has routes to, by whatever table, of the families that have no route to just
 * anywhere. Nothing is said of a family with too many. Throws NativeError. Not on the main thread.
 */
export function routedNetworks(
  fd: number,
  netns: { readonly fd: number; readonly homeFd: number },
  families: readonly (4 | 6)[],
): RoutedNetworks {
  const found: Partial<Record<4 | 6, readonly RoutedNetwork[]>> = {}
  for (const family of families) {
    // The usual namespace has a default route and is asked this one question.
    if (routeTo(fd, SOMEWHERE[family]) !== undefined) continue
    const networks = listNetworks(netns, family)
    if (networks !== undefined) found[family] = networks
  }
  return found
}

function listNetworks(
  netns: { readonly fd: number; readonly homeFd: number },
  family: 4 | 6,
): readonly RoutedNetwork[] | undefined {
  // One of its own: a list that is cut short leaves the socket good for nothing.
  const fd = openNetlinkSocket(netns, 'route')
  try {
    const header = Buffer.alloc(ROUTE_HEADER)
    header[0] = AF[family]
    const messages = dump(fd, RTM_GETROUTE, header, [], 'list routes', MOST_ROUTES)
    if (messages.length >= MOST_ROUTES) return undefined
    return messages.flatMap((message) => readNetwork(message, family) ?? [])
  } finally {
    closeFd(fd)
  }
}

function readNetwork({ type, body }: NetlinkMessage, family: 4 | 6): RoutedNetwork | undefined {
  if (type !== RTM_NEWROUTE || body[0] !== AF[family] || body[7] !== RTN_UNICAST) return undefined
  const size = SOMEWHERE[family].length
  const destination = attributesOf(body, ROUTE_HEADER).get(RTA_DST)
  return {
    bytes: destination === undefined ? new Uint8Array(size) : Uint8Array.from(destination),
    prefixLength: body[1] ?? 0,
  }
}
