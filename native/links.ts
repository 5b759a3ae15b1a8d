// SPDX-License-Identifier: Apache-2.0
// How namespaces hang together, as the kernel tells it: network devices and where their other ends are, and by which
// device the node sends to an address. None of it can be chosen by who lives in a namespace alone: a device whose other
// end is in the node's namespace can be made, or moved, only by who rules the node's network.

import { constants } from 'node:os'
import { NativeError } from './error.ts'
import { closeFd } from './libc.ts'
import { attributesOf, dump, type NetlinkMessage, query, request } from './netlink.ts'
import { openNetlinkSocket } from './socket-spec.ts'

// linux/rtnetlink.h, linux/if_link.h, linux/net_namespace.h
const RTM_NEWLINK = 16
const RTM_GETLINK = 18
const RTM_NEWROUTE = 24
const RTM_GETROUTE = 26
const RTM_NEWNSID = 88
const RTM_GETNSID = 90
const LINK_HEADER = 16
const ROUTE_HEADER = 12
const NSID_HEADER = 4
const IFF_LOOPBACK = 0x8
const IFLA_IFNAME = 3
const IFLA_LINK = 5
const IFLA_MASTER = 10
const IFLA_LINKINFO = 18
const IFLA_INFO_KIND = 1
const IFLA_EXT_MASK = 29
const IFLA_LINK_NETNSID = 37
/** Counters are most of what a device has to say of itself. */
const RTEXT_FILTER_SKIP_STATS = 1 << 3
const NETNSA_NSID = 1
const NETNSA_FD = 3
const RTA_DST = 1
const RTA_OIF = 4
const RTA_MARK = 16
const RTN_LOCAL = 2
const AF_INET = 2
const AF_INET6 = 10

/** What concerns us of a network device. */
export interface Link {
  readonly index: number
  readonly name: string
  /** `veth`, `bridge`, `macvlan`; undefined for hardware, and for loopback. */
  readonly kind: string | undefined
  readonly isLoopback: boolean
  /** The device that it belongs to (a bridge). */
  readonly master: number | undefined
  /** The device at its other end, or below it. */
  readonly other: number | undefined
  /** By this namespace's own numbers, the namespace in which that is; undefined: in this one. */
  readonly otherNetnsId: number | undefined
}

/** How a namespace hangs together with the one of this process. */
export interface Wiring {
  /** Indexes here of the devices at the other ends of its own. */
  readonly wires: readonly number[]
  /** It has a piece of hardware, which somebody must have given to it. */
  readonly hasHardware: boolean
}

/** Where this process's namespace sends what is for an address. */
export type Road =
  /** The address is one of its own. */
  | { readonly kind: 'local' }
  /** It has no route to it. */
  | { readonly kind: 'none' }
  | {
      readonly kind: 'device'
      readonly index: number
      readonly name: string
      /** The device's other end is in one other namespace: what it carries ends there. */
      readonly leadsElsewhere: boolean
      /** Indexes of the devices that a bridge has; undefined for any other device. */
      readonly ports: readonly number[] | undefined
    }

/** Looks at a namespace's devices from inside. Throws NativeError. Not on the main thread. */
export function wiringOf(netns: { readonly fd: number; readonly homeFd: number }): Wiring {
  const fd = openNetlinkSocket(netns, 'route')
  try {
    // Listing them numbers the namespaces at their other ends; only then is ours known to have a number or none.
    const links = listLinks(fd)
    const homeId = netnsIdOf(fd, netns.homeFd)
    return {
      wires: links.flatMap(({ other, otherNetnsId }) =>
        other !== undefined && otherNetnsId !== undefined && otherNetnsId === homeId ? [other] : [],
      ),
      hasHardware: links.some(
        ({ kind, isLoopback, other }) => kind === undefined && !isLoopback && other === undefined,
      ),
    }
  } finally {
    closeFd(fd)
  }
}

/** Looks up the road to an address (4 or 16 bytes) in the namespace of the calling thread. Throws NativeError. */
export function roadTo(address: Uint8Array): Road {
  const fd = openNetlinkSocket({ fd: -1, homeFd: -1 }, 'route')
  try {
    const route = routeTo(fd, address)
    if (route === undefined) return { kind: 'none' }
    if (route.isLocal) return { kind: 'local' }
    const links = listLinks(fd)
    const device = links.find(({ index }) => index === route.device)
    if (device === undefined) return { kind: 'none' }
    return {
      kind: 'device',
      index: device.index,
      name: device.name,
      leadsElsewhere: device.otherNetnsId !== undefined,
      ports:
        device.kind === 'bridge'
          ? links.filter(({ master }) => master === device.index).map(({ index }) => index)
          : undefined,
    }
  } finally {
    closeFd(fd)
  }
}

function listLinks(fd: number): readonly Link[] {
  const attributes = [[IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS]] as const
  return dump(fd, RTM_GETLINK, Buffer.alloc(LINK_HEADER), attributes, 'list links')
    .filter(({ type }) => type === RTM_NEWLINK)
    .map(readLink)
}

/** Reads an RTM_NEWLINK message. */
function readLink({ body }: NetlinkMessage): Link {
  const attributes = attributesOf(body, LINK_HEADER)
  const number = (type: number): number | undefined => {
    const value = attributes.get(type)
    return value?.length === 4 ? value.readInt32LE() : undefined
  }
  const info = attributes.get(IFLA_LINKINFO)
  return {
    index: body.readInt32LE(4),
    name: textOf(attributes.get(IFLA_IFNAME)) ?? '',
    kind: info === undefined ? undefined : textOf(attributesOf(info).get(IFLA_INFO_KIND)),
    isLoopback: (body.readUInt32LE(8) & IFF_LOOPBACK) !== 0,
    master: number(IFLA_MASTER),
    other: number(IFLA_LINK),
    otherNetnsId: number(IFLA_LINK_NETNSID),
  }
}

/** The number that the socket's namespace has for another; undefined when it has none. */
function netnsIdOf(fd: number, netnsFd: number): number | undefined {
  const message = request(RTM_GETNSID, 0, Buffer.alloc(NSID_HEADER), [[NETNSA_FD, netnsFd]])
  const { type, body } = query(fd, message, 'number of a namespace')
  const id = attributesOf(body, NSID_HEADER).get(NETNSA_NSID)
  if (type !== RTM_NEWNSID || id?.length !== 4) return undefined
  const number = id.readInt32LE()
  return number < 0 ? undefined : number
}

/** Where the namespace of a netlink socket sends what is for an address, or what bears this mark and is for it. */
export function routeTo(
  fd: number,
  address: Uint8Array,
  mark = 0,
): { readonly device: number | undefined; readonly isLocal: boolean } | undefined {
  const header = Buffer.alloc(ROUTE_HEADER)
  header[0] = address.length === 4 ? AF_INET : AF_INET6
  header[1] = address.length * 8
  let answer: NetlinkMessage
  try {
    const wanted = request(RTM_GETROUTE, 0, header, [
      [RTA_DST, address],
      [RTA_MARK, mark],
    ])
    answer = query(fd, wanted, 'look a route up')
  } catch (thrown) {
    if (thrown instanceof NativeError && isNoRoute(thrown.errno)) return undefined
    throw thrown
  }
  if (answer.type !== RTM_NEWROUTE) return undefined
  const device = attributesOf(answer.body, ROUTE_HEADER).get(RTA_OIF)
  return { device: device?.readInt32LE(), isLocal: answer.body[7] === RTN_LOCAL }
}

function isNoRoute(errno: number | undefined): boolean {
  const { ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL, EAFNOSUPPORT, EOPNOTSUPP } = constants.errno
  // EACCES and EINVAL are what `prohibit` and `blackhole` routes answer, the last two a kernel without the family.
  const answers = [ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL, EAFNOSUPPORT, EOPNOTSUPP]
  return answers.some((each) => each === errno)
}

function textOf(bytes: Buffer | undefined): string | undefined {
  if (bytes === undefined) return undefined
  const end = bytes.indexOf(0)
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end)
}
