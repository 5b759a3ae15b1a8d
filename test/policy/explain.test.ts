// SPDX-License-Identifier: Apache-2.0
// Why a call is refused, told field by field; and never otherwise than it is refused.

import fc from 'fast-check'
import t from 'tap'
import { EMPTY_MATCH } from '../../mesh/model/policy.ts'
import { explain } from '../../mesh/policy/explain.ts'
import { ip } from '../model/samples.ts'
import { naiveRule } from './naive.ts'
import { anyCall, anyPolicies, sampleCall, samplePolicy } from './samples.ts'

void t.test('each field that fails is named, with what it asks for and what the call has', (t) => {
  const policy = samplePolicy('frontend-only', 'allow', [
    {
      principals: [
        { kind: 'exact', text: 'cluster.local/ns/shop/sa/backend' },
        { kind: 'prefix', text: 'cluster.local/ns/bank/' },
      ],
      destinationPorts: [8080],
    },
    { sourceIps: [{ address: ip('10.0.0.0'), length: 16 }], namespaces: [{ kind: 'present' }] },
    { notServiceAccounts: [{ namespace: 'shop', serviceAccount: 'frontend' }] },
    { principals: [{ kind: 'suffix', text: '/sa/frontend' }] },
  ])
  const [explained] = explain([policy], sampleCall())
  t.match(explained, { isEnforced: true, truth: 'yes' })
  t.strictSame(
    explained?.rules.map(({ truth, obstacles }) => [
      truth,
      ...obstacles.map(({ kind, field, wanted, had }) => [kind, field, wanted, had]),
    ]),
    [
      [
        'no',
        [
          'field',
          'principals',
          'cluster.local/ns/shop/sa/backend, cluster.local/ns/bank/*',
          'cluster.local/ns/shop/sa/frontend',
        ],
      ],
      ['no', ['field', 'sourceIps', '10.0.0.0/16', '10.244.0.7']],
      ['no', ['field', 'notServiceAccounts', 'shop/frontend', 'shop/frontend']],
      ['yes'],
    ],
  )
  t.end()
})

void t.test('a caller without an identity has nothing where a principal is asked for', (t) => {
  const policy = samplePolicy('known', 'allow', [{ principals: [{ kind: 'present' }] }])
  const [explained] = explain([policy], sampleCall({ identity: undefined }))
  t.match(explained?.rules[0]?.obstacles, [{ field: 'principals', wanted: '*', had: '' }])
  t.end()
})

void t.test('what cannot be read, and what says nothing, are told as such', (t) => {
  const unread = samplePolicy('later', 'deny', [{ isPartlyUnread: true, destinationPorts: [8080] }])
  const empty = samplePolicy('empty', 'allow', [EMPTY_MATCH], { isAudit: true })
  t.match(explain([unread, empty], sampleCall()), [
    { truth: 'unknown', isEnforced: true, rules: [{ obstacles: [{ kind: 'unread' }] }] },
    { truth: 'no', isEnforced: false, rules: [{ obstacles: [{ kind: 'empty' }] }] },
  ])
  t.end()
})

void t.test('a list of a thousand values is not told at length', (t) => {
  const destinationPorts = Array.from({ length: 1_000 }, (_, index) => 10_000 + index)
  const [explained] = explain([samplePolicy('many', 'allow', [{ destinationPorts }])], sampleCall())
  const [obstacle] = explained?.rules[0]?.obstacles ?? []
  t.match(obstacle?.wanted, /^10000, .* and 992 more$/)
  t.end()
})

void t.test('explanations say of every rule what the specification says', (t) => {
  fc.assert(
    fc.property(anyPolicies, anyCall, (policies, call) => {
      for (const { policy, truth, rules } of explain(policies, call)) {
        const expected = policy.rules.map((rule) => naiveRule(rule, call))
        const told = rules.map((each) => each.truth)
        if (told.join() !== expected.join()) throw new Error(`${told.join()}: ${expected.join()}`)
        // What does not match has a reason, and what matches has none.
        if (rules.some((each) => (each.truth === 'yes') !== (each.obstacles.length === 0)))
          throw new Error('a rule without a reason')
        const sum = expected.includes('yes')
          ? 'yes'
          : expected.includes('unknown')
            ? 'unknown'
            : 'no'
        if (truth !== sum) throw new Error(`${truth}, expected: ${sum}`)
      }
    }),
    { numRuns: 2_000 },
  )
  t.pass('2,000 sets of policies')
  t.end()
})
