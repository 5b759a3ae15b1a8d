// SPDX-License-Identifier: Apache-2.0
// The routing rules of a namespace, as rtnetlink tells them, and where among them a rule of ours can stand. Pure.

import { attributesOf } from './netlink.ts'
import type { MarkRoute } from './netns-messages.ts'

// linux/fib_rules.h
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

/** Reads the body of an RTM_NEWRULE message. */
export function readRule(body: Buffer): RoutingRule {
  const attributes = attributesOf(body, RULE_HEADER)
  const number = (type: number): number | undefined => {
    const value = attributes.get(type)
    return value?.length === 4 ? value.readUInt32LE() : undefined
  }
  const mark = number(FRA_FWMARK)
  return {
    priority: number(FRA_PRIORITY) ?? LOCAL_PRIORITY,
    mark: mark ?? 0,
    // A mark without a mask is compared whole.
    mask: number(FRA_FWMASK) ?? (mark === undefined ? 0 : 0xffffffff),
    table: number(FRA_TABLE) ?? body[4] ?? 0,
  }
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
  const isOurs = (rule: RoutingRule): boolean => isSameRule(rule, wanted)
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

/** Whether a rule is the wanted one, wherever it stands. */
export function isSameRule({ mark, mask, table }: RoutingRule, wanted: MarkRoute): boolean {
  return mark === wanted.mark && mask === wanted.mask && table === wanted.table
}

function describe({ priority, mark, mask, table }: RoutingRule): string {
  const match = mask === 0 ? '' : ` fwmark 0x${mark.toString(16)}/0x${mask.toString(16)}`
  return `${priority}:${match} lookup ${table}`
}
