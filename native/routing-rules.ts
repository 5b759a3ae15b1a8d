// SPDX-License-Identifier: Apache-2.0
// The routing rules of a namespace, read from an rtnetlink dump, and where among them a rule of ours can stand. Pure.

import type { MarkRoute } from './netns-messages.ts'

// linux/fib_rules.h, linux/netlink.h
export const NLMSG_HEADER = 16
const NLMSG_DONE = 3
export const NLMSG_ERROR = 2
export const RTM_NEWRULE = 32
const RULE_HEADER = 12
export const FRA_PRIORITY = 6
export const FRA_FWMARK = 10
export const FRA_TABLE = 15
export const FRA_FWMASK = 16
/** The rule of the local table, which the kernel makes, and which nothing may precede. */
const LOCAL_PRIORITY = 0

/** What concerns us of a rule. A mask of 0: it does not look at marks. */
export interface RoutingRule {
  readonly priority: number
  readonly mark: number
  readonly mask: number
  readonly table: number
}

/** Rules in one datagram of a dump, and whether it is the last. `errno` when the kernel refused the dump. */
export interface RuleDump {
  readonly rules: readonly RoutingRule[]
  readonly isLast: boolean
  readonly errno: number
}

/** Reads one datagram of an RTM_GETRULE dump. */
export function parseRules(datagram: Buffer): RuleDump {
  const rules: RoutingRule[] = []
  for (let at = 0; at + NLMSG_HEADER <= datagram.length; ) {
    const length = datagram.readUInt32LE(at)
    const type = datagram.readUInt16LE(at + 4)
    if (length < NLMSG_HEADER || at + length > datagram.length) break
    if (type === NLMSG_DONE) return { rules, isLast: true, errno: 0 }
    if (type === NLMSG_ERROR)
      return { rules, isLast: true, errno: -datagram.readInt32LE(at + NLMSG_HEADER) }
    if (type === RTM_NEWRULE)
      rules.push(parseRule(datagram.subarray(at + NLMSG_HEADER, at + length)))
    at += align(length)
  }
  return { rules, isLast: false, errno: 0 }
}

function parseRule(body: Buffer): RoutingRule {
  const found = new Map<number, number>()
  for (let at = RULE_HEADER; at + 4 <= body.length; ) {
    const length = body.readUInt16LE(at)
    if (length < 4) break
    if (length === 8) found.set(body.readUInt16LE(at + 2), body.readUInt32LE(at + 4))
    at += align(length)
  }
  const mark = found.get(FRA_FWMARK)
  return {
    priority: found.get(FRA_PRIORITY) ?? LOCAL_PRIORITY,
    mark: mark ?? 0,
    // A mark without a mask is compared whole.
    mask: found.get(FRA_FWMASK) ?? (mark === undefined ? 0 : 0xffffffff),
    table: found.get(FRA_TABLE) ?? body[4] ?? 0,
  }
}

function align(length: number): number {
  return (length + 3) & ~3
}

export type RulePlace =
  | { readonly kind: 'place'; readonly priority: number }
  /** Ours stands where it should. */
  | { readonly kind: 'there' }
  /** The rule that cannot live beside ours, in the words of `ip rule`. */
  | { readonly kind: 'clash'; readonly rule: string }

/**
 * Where our rule goes: at its own priority, or before the first rule of others, which might otherwise send marked packets
 * elsewhere (a pod with several interfaces routes by source address). A rule of others for our mark or our table is a clash.
 */
export function placeRule(rules: readonly RoutingRule[], wanted: MarkRoute): RulePlace {
  const isOurs = ({ mark, mask, table }: RoutingRule): boolean =>
    mark === wanted.mark && mask === wanted.mask && table === wanted.table
  const others = rules.filter((rule) => rule.priority !== LOCAL_PRIORITY && !isOurs(rule))
  const clash = others.find(
    ({ mark, mask, table }) =>
      table === wanted.table || (mask !== 0 && (wanted.mark & mask) >>> 0 === mark),
  )
  if (clash !== undefined) return { kind: 'clash', rule: describe(clash) }
  const first = others.reduce((least, rule) => (rule.priority < least.priority ? rule : least), {
    priority: wanted.priority + 1,
    mark: 0,
    mask: 0,
    table: 0,
  })
  const ours = rules.find(isOurs)
  if (ours !== undefined && ours.priority < first.priority) return { kind: 'there' }
  const priority = Math.min(wanted.priority, first.priority - 1)
  return priority > LOCAL_PRIORITY
    ? { kind: 'place', priority }
    : { kind: 'clash', rule: describe(first) }
}

function describe({ priority, mark, mask, table }: RoutingRule): string {
  const match = mask === 0 ? '' : ` fwmark 0x${mark.toString(16)}/0x${mask.toString(16)}`
  return `${priority}:${match} lookup ${table}`
}
