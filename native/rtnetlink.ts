// SPDX-License-Identifier: Apache-2.0
// The rtnetlink messages capture needs: add and delete a rule "packets with this mark use this table", add and delete the
// route "everything in this table is local", list the rules. Adding what is there and deleting what is not are no errors.

import { constants } from 'node:os'
import { NativeError } from './error.ts'
import { closeFd } from './libc.ts'
import { type Attribute, dump, errnoOf, exchange, request } from './netlink.ts'
import type { MarkRoute } from './netns-messages.ts'
import {
  FRA_FWMARK,
  FRA_FWMASK,
  FRA_PRIORITY,
  FRA_TABLE,
  placeRule,
  readRule,
  type RoutingRule,
} from './routing-rules.ts'
import { openNetlinkSocket } from './socket-spec.ts'

// linux/rtnetlink.h, linux/netlink.h, linux/fib_rules.h
const RTM_NEWROUTE = 24
const RTM_DELROUTE = 25
const RTM_NEWRULE = 32
const RTM_DELRULE = 33
const RTM_GETRULE = 34
const NLM_F_ACK = 0x4
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
/** The call of the error that tells of a rule that cannot live beside ours; its detail is that rule. */
export const RULE_CLASH = 'routing rule'

type Action = 'add' | 'delete'

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
  const fd = openNetlinkSocket(netns, 'route')
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
    change(fd, routeMessage(family, 'add', route), 'add local route', 'add')
    if (place.kind === 'place')
      change(fd, ruleMessage(family, 'add', route, place.priority), 'add mark rule', 'add')
  }
}

function deleteAll(fd: number, families: readonly (4 | 6)[], route: MarkRoute): void {
  for (const family of families) {
    // Wherever it stands, and again if a second one was put before a rule that came later.
    const rule = ruleMessage(family, 'delete', route, undefined)
    while (change(fd, rule, 'delete mark rule', 'delete'));
    change(fd, routeMessage(family, 'delete', route), 'delete local route', 'delete')
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
  const header = Buffer.alloc(12)
  header[0] = AF[family]
  try {
    return dump(fd, RTM_GETRULE, header, [], 'list rules')
      .filter(({ type }) => type === RTM_NEWRULE)
      .map(({ body }) => readRule(body))
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
  return request(action === 'add' ? RTM_NEWRULE : RTM_DELRULE, requestFlags(action), header, [
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
  return request(action === 'add' ? RTM_NEWROUTE : RTM_DELROUTE, requestFlags(action), header, [
    [RTA_TABLE, route.table],
    [RTA_OIF, LOOPBACK_INDEX],
  ])
}

function requestFlags(action: Action): number {
  const create = action === 'add' ? NLM_F_CREATE | NLM_F_EXCL : 0
  return NLM_F_ACK | create
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
  if (action === 'add') return errno === constants.errno.EEXIST
  return errno === constants.errno.ENOENT || errno === constants.errno.ESRCH
}
