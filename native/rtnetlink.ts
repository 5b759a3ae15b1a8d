// SPDX-License-Identifier: Apache-2.0
// The rtnetlink messages capture needs: a rule "packets with this mark use this table" and a route "everything in this table
// is local" are put up, looked after and taken away, and loopback is kept up. What is right already is left alone.

import { constants } from 'node:os'
import { NativeError } from './error.ts'
import { addressBytes, closeFd } from './libc.ts'
import { routeTo } from './links.ts'
import { type Attribute, dump, errnoOf, exchange, query, request } from './netlink.ts'
import type { MarkRoute } from './netns-messages.ts'
import { listAddresses, type OwnAddress } from './own-addresses.ts'
import {
  FRA_FWMARK,
  FRA_FWMASK,
  FRA_PRIORITY,
  FRA_TABLE,
  isSameRule,
  placeRule,
  readRule,
  type RoutingRule,
} from './routing-rules.ts'
import { type RoutedNetworks, routedNetworks } from './routed-networks.ts'
import { openNetlinkSocket } from './socket-spec.ts'

// linux/rtnetlink.h, linux/netlink.h, linux/fib_rules.h
const RTM_NEWLINK = 16
const RTM_GETLINK = 18
const RTM_NEWROUTE = 24
const RTM_DELROUTE = 25
const RTM_NEWRULE = 32
const RTM_DELRULE = 33
const RTM_GETRULE = 34
const NLM_F_ACK = 0x4
const NLM_F_REPLACE = 0x100
const NLM_F_EXCL = 0x200
const NLM_F_CREATE = 0x400
const RTM_NEWADDR = 20
const LINK_HEADER = 16
const ADDRESS_HEADER = 8
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const IFF_UP = 0x1
const FR_ACT_TO_TBL = 1
const RTA_OIF = 4
const RTA_TABLE = 15
const RTN_LOCAL = 2
const RT_SCOPE_HOST = 254
const RTPROT_STATIC = 4
const AF = { 4: 2, 6: 10 } as const
/** Loopback is the first device of every namespace. */
const LOOPBACK_INDEX = 1
/** An address that is local because of loopback's own, and that one. */
const LOOPBACK = {
  4: {
    probe: addressBytes('127.64.0.1'),
    address: addressBytes('127.0.0.1'),
    prefixLength: 8,
    text: '127.0.0.1/8',
  },
  6: {
    probe: addressBytes('::1'),
    address: addressBytes('::1'),
    prefixLength: 128,
    text: '::1/128',
  },
} as const
/** Addresses for documentation, which no namespace has: what bears our mark is to be local wherever it goes. */
const SOMEWHERE = { 4: addressBytes('192.0.2.1'), 6: addressBytes('2001:db8::1') } as const
/** Whoever makes rules by the thousand in a pod shall not keep the agent busy. */
const MOST_RULES = 4096
/**
 * Of rules like ours no more are taken away at once. There are two of them at most, unless somebody puts them up: by the
 * thousand, or as fast as they go.
 */
const MOST_TAKEN_AWAY = 16
/** The call of the error that tells of a rule that cannot live beside ours; its detail is that rule. */
export const RULE_CLASH = 'routing rule'

type Action = 'add' | 'delete' | 'replace'

interface NetnsHandle {
  readonly fd: number
  readonly homeFd: number
}

/** How a namespace was found. Plain data: it crosses a thread border. */
export interface KeptNetns {
  /** What was not as it should be, and is now, in the words of `ip`. */
  readonly repaired: readonly string[]
  readonly addresses: readonly OwnAddress[]
  readonly networks: RoutedNetworks
}

/**
 * Sees to it that loopback is up and has its addresses, and that rule and route of each family are there and hold; lists the addresses, and tells
 * where the routes lead. Throws
 * NativeError, with RULE_CLASH where a rule of others cannot live beside ours (nothing has been changed then). Not on the
 * main thread.
 */
export function keepNetns(
  netns: NetnsHandle,
  families: readonly (4 | 6)[],
  route: MarkRoute,
): KeptNetns {
  const fd = openNetlinkSocket(netns, 'route')
  try {
    const repaired = [
      ...keepLoopbackUp(fd),
      ...keepLoopbackAddresses(fd, families),
      ...keepMarkRoutes(fd, families, route),
    ]
    const networks = routedNetworks(fd, netns, families)
    // Last: the list may be cut short, and the socket is of no use then.
    return { repaired, addresses: listAddresses(fd), networks }
  } finally {
    closeFd(fd)
  }
}

/** Deletes rule and route of each family, as far as they can be ours. Throws NativeError. Not on the main thread. */
export function deleteMarkRoute(
  netns: NetnsHandle,
  families: readonly (4 | 6)[],
  route: MarkRoute,
): void {
  const fd = openNetlinkSocket(netns, 'route')
  try {
    deleteAll(fd, families, route)
  } finally {
    closeFd(fd)
  }
}

/** Without loopback nothing that is captured arrives. */
function keepLoopbackUp(fd: number): readonly string[] {
  const header = Buffer.alloc(LINK_HEADER)
  header.writeInt32LE(LOOPBACK_INDEX, 4)
  const { body } = query(fd, request(RTM_GETLINK, 0, header, []), 'look at loopback')
  if ((body.readUInt32LE(8) & IFF_UP) !== 0) return []
  header.writeUInt32LE(IFF_UP, 8)
  header.writeUInt32LE(IFF_UP, 12)
  change(fd, request(RTM_NEWLINK, NLM_F_ACK, header, []), 'set loopback up', 'replace')
  return ['link lo up']
}

/** What is captured is led to these. */
function keepLoopbackAddresses(fd: number, families: readonly (4 | 6)[]): readonly string[] {
  return families.flatMap((family) => {
    const { probe, address, prefixLength, text } = LOOPBACK[family]
    if (routeTo(fd, probe)?.isLocal === true) return []
    const header = Buffer.alloc(ADDRESS_HEADER)
    header[0] = AF[family]
    header[1] = prefixLength
    header[3] = RT_SCOPE_HOST
    header.writeUInt32LE(LOOPBACK_INDEX, 4)
    const wanted = request(RTM_NEWADDR, requestFlags('add'), header, [
      [IFA_LOCAL, address],
      [IFA_ADDRESS, address],
    ])
    return change(fd, wanted, 'add loopback address', 'add') ? [`addr ${text} dev lo`] : []
  })
}

function keepMarkRoutes(
  fd: number,
  families: readonly (4 | 6)[],
  route: MarkRoute,
): readonly string[] {
  // All are looked at first: a clash in one family must leave both as they were.
  const places = families.map((family) => [family, findPlace(fd, family, route)] as const)
  return places.flatMap(([family, found]) => keepMarkRoute(fd, family, found, route))
}

function keepMarkRoute(
  fd: number,
  family: 4 | 6,
  found: FoundPlace,
  route: MarkRoute,
): readonly string[] {
  const text = `${family === 6 ? '-6 ' : ''}route local default dev lo table ${route.table}`
  // The table is filled before packets are sent to it.
  const isAdded = change(fd, routeMessage(family, 'add', route), 'add local route', 'add')
  const repaired = [...(isAdded ? [text] : []), ...keepMarkRule(fd, family, found, route)]
  if (isAdded || routeTo(fd, SOMEWHERE[family], route.mark)?.isLocal === true) return repaired
  // The rule may have gone since it was looked at: then the route is not to blame.
  const putBack = keepMarkRule(fd, family, findPlace(fd, family, route), route)
  if (putBack.length > 0) return [...new Set([...repaired, ...putBack])]
  // Something else of the same prefix may stand in its place.
  change(fd, routeMessage(family, 'replace', route), 'replace local route', 'replace')
  return [...repaired, text]
}

function keepMarkRule(
  fd: number,
  family: 4 | 6,
  { place, misplaced }: FoundPlace,
  route: MarkRoute,
): readonly string[] {
  if (place.kind !== 'place') return []
  change(fd, ruleMessage(family, 'add', route, place.priority), 'add mark rule', 'add')
  // Behind another's it had no effect; where it is put again and again it must not pile up.
  for (const priority of misplaced.slice(0, MOST_TAKEN_AWAY))
    change(fd, ruleMessage(family, 'delete', route, priority), 'move mark rule', 'delete')
  const { mark, mask, table } = route
  const flag = family === 6 ? '-6 ' : ''
  return [`${flag}rule fwmark 0x${mark.toString(16)}/0x${mask.toString(16)} lookup ${table}`]
}

function deleteAll(fd: number, families: readonly (4 | 6)[], route: MarkRoute): void {
  for (const family of families) {
    // Wherever it stands, and again if a second one was put before a rule that came later.
    const rule = ruleMessage(family, 'delete', route, undefined)
    for (let taken = 0; taken < MOST_TAKEN_AWAY; taken += 1)
      if (!change(fd, rule, 'delete mark rule', 'delete')) break
    change(fd, routeMessage(family, 'delete', route), 'delete local route', 'delete')
  }
}

interface FoundPlace {
  readonly place: Exclude<ReturnType<typeof placeRule>, { readonly kind: 'clash' }>
  /** Priorities of those of ours that stand where they have no effect. */
  readonly misplaced: readonly number[]
}

function findPlace(fd: number, family: 4 | 6, route: MarkRoute): FoundPlace {
  const rules = listRules(fd, family)
  const place = placeRule(rules, route)
  if (place.kind === 'clash') throw new NativeError(RULE_CLASH, constants.errno.EEXIST, place.rule)
  const misplaced = rules
    .filter((rule) => isSameRule(rule, route) && place.kind === 'place')
    .map(({ priority }) => priority)
  return { place, misplaced }
}

function listRules(fd: number, family: 4 | 6): readonly RoutingRule[] {
  const header = Buffer.alloc(12)
  header[0] = AF[family]
  try {
    const messages = dump(fd, RTM_GETRULE, header, [], 'list rules', MOST_RULES)
    if (messages.length >= MOST_RULES)
      throw new NativeError('rtnetlink', constants.errno.E2BIG, `${MOST_RULES} rules and more`)
    return messages.filter(({ type }) => type === RTM_NEWRULE).map(({ body }) => readRule(body))
  } catch (thrown) {
    // A kernel without policy routing for the family has no rules.
    if (thrown instanceof NativeError && thrown.errnoName === 'EOPNOTSUPP') return []
    throw thrown
  }
}

function ruleMessage(
  family: 4 | 6,
  action: Action,
  route: MarkRoute,
  priority: number | undefined,
): Buffer {
  const header = Buffer.alloc(12)
  header[0] = AF[family]
  header[7] = FR_ACT_TO_TBL
  const place: readonly Attribute[] = priority === undefined ? [] : [[FRA_PRIORITY, priority]]
  return request(action === 'delete' ? RTM_DELRULE : RTM_NEWRULE, requestFlags(action), header, [
    ...place,
    [FRA_FWMARK, route.mark],
    [FRA_FWMASK, route.mask],
    [FRA_TABLE, route.table],
  ])
}

function routeMessage(family: 4 | 6, action: Action, route: MarkRoute): Buffer {
  const header = Buffer.alloc(12)
  header[0] = AF[family]
  header[5] = RTPROT_STATIC
  header[6] = RT_SCOPE_HOST
  header[7] = RTN_LOCAL
  return request(action === 'delete' ? RTM_DELROUTE : RTM_NEWROUTE, requestFlags(action), header, [
    [RTA_TABLE, route.table],
    [RTA_OIF, LOOPBACK_INDEX],
  ])
}

function requestFlags(action: Action): number {
  switch (action) {
    case 'add':
      return NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    case 'replace':
      return NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
    case 'delete':
      return NLM_F_ACK
  }
}

/** Sends one change and reads its acknowledgement. False when there was nothing to do. */
function change(fd: number, message: Buffer, what: string, action: Action): boolean {
  const errno = errnoOf(exchange(fd, message, what))
  if (errno === 0) return true
  if (errno === undefined) throw new NativeError('recv(rtnetlink)', constants.errno.EPROTO, what)
  if (isAlreadyDone(errno, action)) return false
  throw new NativeError('rtnetlink', errno, what)
}

function isAlreadyDone(errno: number, action: Action): boolean {
  if (action !== 'delete') return errno === constants.errno.EEXIST
  return errno === constants.errno.ENOENT || errno === constants.errno.ESRCH
}
