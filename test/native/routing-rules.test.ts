// SPDX-License-Identifier: Apache-2.0
// Where the mesh's routing rule goes among those a pod has: one line a case.

import t from 'tap'
import { readMessages } from '../../native/netlink.ts'
import { placeRule, type RoutingRule } from '../../native/routing-rules.ts'

const WANTED = { mark: 0x111, mask: 0xfff, table: 100, priority: 32764 }
const rule = (priority: number, table: number, mark = 0, mask = 0): RoutingRule => ({
  priority,
  table,
  mark,
  mask,
})
const KERNELS = [rule(0, 255), rule(32766, 254), rule(32767, 253)]
const ours = (priority: number): RoutingRule => rule(priority, 100, 0x111, 0xfff)

const CASES = [
  { is: 'the rules every namespace has', rules: [], so: { kind: 'place', priority: 32764 } },
  { is: 'ours is there', rules: [ours(32764)], so: { kind: 'there' } },
  {
    is: 'a rule by source address',
    rules: [rule(1000, 200)],
    so: { kind: 'place', priority: 999 },
  },
  { is: 'and ours before it', rules: [ours(999), rule(1000, 200)], so: { kind: 'there' } },
  {
    is: 'a rule that came before ours',
    rules: [rule(500, 200), ours(999)],
    so: { kind: 'place', priority: 499 },
  },
  { is: 'a rule after ours', rules: [rule(32765, 200)], so: { kind: 'place', priority: 32764 } },
  {
    is: 'a mark that is another',
    rules: [rule(1000, 77, 0x7, 0xffffffff)],
    so: { kind: 'place', priority: 999 },
  },
  {
    is: 'our mark within a mask',
    rules: [rule(1000, 77, 0x11, 0xff)],
    so: { kind: 'clash', rule: '1000: fwmark 0x11/0xff lookup 77' },
  },
  {
    is: 'our table for something else',
    rules: [rule(1000, 100)],
    so: { kind: 'clash', rule: '1000: lookup 100' },
  },
  { is: 'no room before it', rules: [rule(1, 200)], so: { kind: 'clash', rule: '1: lookup 200' } },
]

for (const { is, rules, so } of CASES)
  void t.test(`${is}: ${so.kind}`, (t) => {
    t.strictSame(placeRule([...KERNELS, ...rules], WANTED), so)
    t.end()
  })

void t.test('an answer that is cut short or is none gives no messages and does not throw', (t) => {
  const nothing = { messages: [], isLast: false, isTorn: false }
  t.strictSame(readMessages(Buffer.alloc(0)), nothing)
  t.strictSame(readMessages(Buffer.alloc(15, 7)), nothing)
  const claimsMore = Buffer.alloc(32)
  claimsMore.writeUInt32LE(4096, 0)
  t.strictSame(readMessages(claimsMore), nothing)
  t.end()
})
