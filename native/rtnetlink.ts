// SPDX-License-Identifier: Apache-2.0
// The rtnetlink messages capture needs: add and delete a rule "packets with this mark use this table", add and delete the
// route "everything in this table is local", list the rules. Adding what is there and deleting what is not are no errors.

import { constants } from 'node:os'
import koffi from 'koffi'
import { NativeError } from './error.ts'
import { closeFd } from './libc.ts'
import type { MarkRoute } from './netns-messages.ts'
import {
  FRA_FWMARK,
  FRA_FWMASK,
  FRA_PRIORITY,
  FRA_TABLE,
  NLMSG_ERROR,
  NLMSG_HEADER,
  parseRules,
  placeRule,
  type RoutingRule,
  RTM_NEWRULE,
} from './routing-rules.ts'
import { openRouteSocket } from './socket-spec.ts'

// linux/rtnetlink.h, linux/netlink.h, linux/fib_rules.h
const RTM_NEWROUTE = 24
const RTM_DELROUTE = 25
const RTM_DELRULE = 33
const RTM_GETRULE = 34
const NLM_F_REQUEST = 0x1
const NLM_F_ACK = 0x4
const NLM_F_DUMP = 0x300
const NLM_F_EXCL = 0x200
const NLM_F_CREATE = 0x400
const FR_ACT_TO_TBL = 1
const RTA_OIF = 4
const RTA_TABLE = 15
const RTN_LOCAL = 2
const RT_SCOPE_HOST = 254
const RTPROT_STATIC = 4
const AF = { 4: 2, 6: 10 } as const
/** Loopback is the first device of every namespace. */
const LOOPBACK_INDEX = 1
/** The acknowledgement repeats our request after 20 bytes. */
const REPLY_SIZE = 512
/** A dump comes in datagrams of at most this size. */
const DUMP_SIZE = 32_768

/** The call of the error that tells of a rule that cannot live beside ours; its detail is that rule. */
export const RULE_CLASH = 'routing rule'

type Action = 'add' | 'delete'
type Send = (fd: number, data: Buffer, length: number, flags: number) => number
interface Calls {
  readonly send: Send
  readonly recv: Send
}
let calls: Calls | undefined

function loadCalls(): Calls {
  if (calls !== undefined) return calls
  const libc = koffi.load('libc.so.6')
  calls = {
    send: libc.func('long send(int fd, const void *data, size_t length, int flags)') as Send,
    recv: libc.func('long recv(int fd, void *data, size_t length, int flags)') as Send,
  }
  return calls
}

/**
 * Adds or deletes the rule and the route for each family. Throws NativeError, with EEXIST where a rule of others cannot
 * live beside ours (nothing has been changed then). Not on the main thread.
 */
export function changeMarkRoute(
  netns: { readonly fd: number; readonly homeFd: number },
  families: readonly (4 | 6)[],
  action: Action,
  route: MarkRoute,
): void {
  const fd = openRouteSocket(netns)
  try {
    if (action === 'add') addAll(fd, families, route)
    else deleteAll(fd, families, route)
  } finally {
    closeFd(fd)
  }
}

function addAll(fd: number, families: readonly (4 | 6)[], route: MarkRoute): void {
  // All are looked at first: a clash in one family must leave both as they were.
  const places = families.map((family) => [family, findPlace(fd, family, route)] as const)
  for (const [family, place] of places) {
    // The table is filled before packets are sent to it.
    exchange(fd, routeMessage(family, 'add', route), 'add local route', 'add')
    if (place.kind === 'place')
      exchange(fd, ruleMessage(family, 'add', route, place.priority), 'add mark rule', 'add')
  }
}

function deleteAll(fd: number, families: readonly (4 | 6)[], route: MarkRoute): void {
  for (const family of families) {
    // Wherever it stands, and again if a second one was put before a rule that came later.
    const request = ruleMessage(family, 'delete', route, undefined)
    while (exchange(fd, request, 'delete mark rule', 'delete'));
    exchange(fd, routeMessage(family, 'delete', route), 'delete local route', 'delete')
  }
}

function findPlace(
  fd: number,
  family: 4 | 6,
  route: MarkRoute,
): Exclude<ReturnType<typeof placeRule>, { readonly kind: 'clash' }> {
  const place = placeRule(listRules(fd, family), route)
  if (place.kind === 'clash') throw new NativeError(RULE_CLASH, constants.errno.EEXIST, place.rule)
  return place
}

function listRules(fd: number, family: 4 | 6): readonly RoutingRule[] {
  const { send, recv } = loadCalls()
  const header = Buffer.alloc(12)
  header[0] = AF[family]
  const request = message(RTM_GETRULE, NLM_F_REQUEST | NLM_F_DUMP, header, [])
  if (send(fd, request, request.length, 0) < 0)
    throw new NativeError('send(rtnetlink)', koffi.errno(), 'list rules')
  const rules: RoutingRule[] = []
  const reply = Buffer.alloc(DUMP_SIZE)
  for (;;) {
    const length = recv(fd, reply, reply.length, 0)
    if (length < 0) throw new NativeError('recv(rtnetlink)', koffi.errno(), 'list rules')
    const { rules: more, isLast, errno } = parseRules(reply.subarray(0, length))
    // A kernel without policy routing for the family has no rules.
    if (errno === constants.errno.EOPNOTSUPP) return []
    if (errno !== 0) throw new NativeError('rtnetlink', errno, 'list rules')
    rules.push(...more)
    if (isLast || length === 0) return rules
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
  return message(action === 'add' ? RTM_NEWRULE : RTM_DELRULE, requestFlags(action), header, [
    ...(priority === undefined ? [] : [[FRA_PRIORITY, priority] as const]),
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
  return message(action === 'add' ? RTM_NEWROUTE : RTM_DELROUTE, requestFlags(action), header, [
    [RTA_TABLE, route.table],
    [RTA_OIF, LOOPBACK_INDEX],
  ])
}

function requestFlags(action: Action): number {
  const create = action === 'add' ? NLM_F_CREATE | NLM_F_EXCL : 0
  return NLM_F_REQUEST | NLM_F_ACK | create
}

/** Builds a message of a family header and 32-bit attributes. */
function message(
  type: number,
  flags: number,
  header: Buffer,
  attributes: readonly (readonly [type: number, value: number])[],
): Buffer {
  const size = NLMSG_HEADER + header.length + attributes.length * 8
  const bytes = Buffer.alloc(size)
  bytes.writeUInt32LE(size, 0)
  bytes.writeUInt16LE(type, 4)
  bytes.writeUInt16LE(flags, 6)
  bytes.set(header, NLMSG_HEADER)
  let at = NLMSG_HEADER + header.length
  for (const [attribute, value] of attributes) {
    bytes.writeUInt16LE(8, at)
    bytes.writeUInt16LE(attribute, at + 2)
    bytes.writeUInt32LE(value, at + 4)
    at += 8
  }
  return bytes
}

/**
 * Sends one message and reads its acknowledgement: rtnetlink has answered when send() returns. False when there was
 * nothing to do.
 */
function exchange(fd: number, request: Buffer, what: string, action: Action): boolean {
  const { send, recv } = loadCalls()
  if (send(fd, request, request.length, 0) < 0)
    throw new NativeError('send(rtnetlink)', koffi.errno(), what)
  const reply = Buffer.alloc(REPLY_SIZE)
  const length = recv(fd, reply, reply.length, 0)
  if (length < 0) throw new NativeError('recv(rtnetlink)', koffi.errno(), what)
  if (length < NLMSG_HEADER + 4 || reply.readUInt16LE(4) !== NLMSG_ERROR)
    throw new NativeError('recv(rtnetlink)', constants.errno.EPROTO, what)
  const errno = -reply.readInt32LE(NLMSG_HEADER)
  if (errno === 0) return true
  if (isAlreadyDone(errno, action)) return false
  throw new NativeError('rtnetlink', errno, what)
}

function isAlreadyDone(errno: number, action: Action): boolean {
  if (action === 'add') return errno === constants.errno.EEXIST
  return errno === constants.errno.ENOENT || errno === constants.errno.ESRCH
}
