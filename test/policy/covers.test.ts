// SPDX-License-Identifier: Apache-2.0
// Which rules cover others: what is said to be covered never matches alone, judged by the naive evaluator.

import fc from 'fast-check'
import t from 'tap'
import { ruleCovers } from '../../mesh/policy/covers.ts'
import type { PolicyMatch, PolicyRule } from '../../mesh/model/policy.ts'
import { ip } from '../model/samples.ts'
import { naiveRule } from './naive.ts'
import { anyCall, anyPolicies, samplePolicy } from './samples.ts'

const rule = (...matches: readonly Partial<PolicyMatch>[]): PolicyRule => ({
  place: 0,
  // Each a clause of its own: all must hold.
  clauses: samplePolicy('p', 'allow', matches).rules.flatMap(({ clauses }) => clauses),
})
const exact = (text: string) => ({ kind: 'exact', text }) as const
const prefix = (text: string) => ({ kind: 'prefix', text }) as const
const FRONTEND = 'cluster.local/ns/shop/sa/frontend'

void t.test('what is covered by a rule never matches without it', (t) => {
  let covered = 0
  fc.assert(
    fc.property(
      anyPolicies,
      fc.array(anyCall, { minLength: 1, maxLength: 8 }),
      (policies, calls) => {
        const rules = policies.flatMap((policy) => policy.rules)
        const truths = new Map(
          rules.map((rule) => [rule, calls.map((call) => naiveRule(rule, call))]),
        )
        for (const broad of rules)
          for (const narrow of rules) {
            if (broad === narrow || !ruleCovers(broad, narrow)) continue
            covered += 1
            for (const [index, tight] of (truths.get(narrow) ?? []).entries()) {
              const wide = truths.get(broad)?.[index]
              if (tight === 'yes' && wide !== 'yes')
                throw new Error(JSON.stringify([broad, narrow]))
              if (tight === 'unknown' && wide === 'no')
                throw new Error(JSON.stringify([broad, narrow]))
            }
          }
      },
    ),
    { numRuns: 3_000 },
  )
  t.ok(covered > 1_000, `${covered} pairs`)
  t.end()
})

const FIELDS: readonly (readonly [string, PolicyRule, PolicyRule, boolean])[] = [
  ['everything covers anything', rule(), rule({ destinationPorts: [80] }), true],
  ['anything does not cover everything', rule({ destinationPorts: [80] }), rule(), false],
  [
    'fewer conditions',
    rule({ destinationPorts: [80] }),
    rule({ destinationPorts: [80] }, { principals: [exact(FRONTEND)] }),
    true,
  ],
  ['more values', rule({ destinationPorts: [80, 443] }), rule({ destinationPorts: [443] }), true],
  ['other values', rule({ destinationPorts: [80] }), rule({ destinationPorts: [80, 443] }), false],
  [
    'a prefix',
    rule({ principals: [prefix('cluster.local/ns/shop/')] }),
    rule({ principals: [exact(FRONTEND)] }),
    true,
  ],
  [
    'its namespace',
    rule({ namespaces: [exact('shop')] }),
    rule({ principals: [exact(FRONTEND)] }),
    true,
  ],
  [
    'another namespace',
    rule({ namespaces: [exact('web')] }),
    rule({ principals: [exact(FRONTEND)] }),
    false,
  ],
  [
    'fewer exclusions',
    rule({ notDestinationPorts: [80] }),
    rule({ notDestinationPorts: [80, 443] }),
    true,
  ],
  [
    'more exclusions',
    rule({ notDestinationPorts: [80, 443] }),
    rule({ notDestinationPorts: [80] }),
    false,
  ],
  [
    'a wider range',
    rule({ sourceIps: [{ address: ip('10.0.0.0'), length: 8 }] }),
    rule({ sourceIps: [{ address: ip('10.1.0.0'), length: 16 }] }),
    true,
  ],
  [
    'what cannot be read',
    rule({ destinationPorts: [80], isPartlyUnread: true }),
    rule({ destinationPorts: [80] }),
    false,
  ],
]
for (const [name, broad, narrow, covers] of FIELDS)
  void t.test(`covering: ${name}`, (t) => {
    t.equal(ruleCovers(broad, narrow), covers)
    t.end()
  })
