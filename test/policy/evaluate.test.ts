// SPDX-License-Identifier: Apache-2.0
// What policies say of calls: as the specification reads (the witness is in naive.ts), and in stories of every field.

import fc from 'fast-check'
import t from 'tap'
import type { Policy } from '../../mesh/model/policy.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { PolicySet } from '../../mesh/policy/evaluate.ts'
import type { PolicyCall, PolicyHit } from '../../mesh/policy/types.ts'
import { naiveReports, naiveVerdict } from './naive.ts'
import { anyCall, anyPolicies, sampleCall, samplePolicy } from './samples.ts'

const placeOf = ({ policy, rule }: PolicyHit): string =>
  `${policy.key}#${policy.rules.indexOf(rule)}`

function verdictOf(policies: readonly Policy[], call: PolicyCall): string {
  return textOf(PolicySet.of(policies), call)
}

function textOf(set: PolicySet, call: PolicyCall): string {
  const verdict = set.evaluate(call)
  switch (verdict.kind) {
    case 'denied':
    case 'unknown':
      return `${verdict.kind} ${placeOf(verdict.by)}`
    case 'allowed':
      return verdict.by === undefined ? 'allowed' : `allowed ${placeOf(verdict.by)}`
    case 'notAllowed':
      return `notAllowed ${verdict.policies.map(({ key }) => key).join(' ')}`
  }
}

void t.test('a verdict is what the specification says, by the same rule', (t) => {
  const seen = new Map<string, number>()
  fc.assert(
    fc.property(
      anyPolicies,
      fc.array(anyCall, { minLength: 1, maxLength: 8 }),
      (policies, calls) => {
        const set = PolicySet.of(policies)
        for (const call of calls) {
          const expected = naiveVerdict(policies, call)
          const [kind = ''] = expected.split(' ')
          seen.set(kind, (seen.get(kind) ?? 0) + 1)
          const verdict = textOf(set, call)
          if (verdict !== expected) throw new Error(`${verdict}, expected: ${expected}`)
        }
      },
    ),
    { numRuns: 3_000 },
  )
  for (const kind of ['denied', 'unknown', 'allowed', 'notAllowed'])
    t.ok((seen.get(kind) ?? 0) > 100, `${kind} was seen ${seen.get(kind) ?? 0} times`)
  t.end()
})

void t.test('what is on trial or on record is reported, and decides nothing', (t) => {
  let reported = 0
  fc.assert(
    fc.property(anyPolicies, anyCall, (policies, call) => {
      const set = PolicySet.of(policies)
      const reports = set.reports(call).map(placeOf)
      reported += reports.length
      const expected = naiveReports(policies, call)
      if (reports.join(' ') !== expected.join(' '))
        throw new Error(`${reports.join(' ')}, expected: ${expected.join(' ')}`)
      const enforced = policies.filter(({ isDryRun, isAudit }) => !isDryRun && !isAudit)
      return textOf(set, call) === verdictOf(enforced, call)
    }),
    { numRuns: 2_000 },
  )
  t.ok(reported > 100, `${reported} reports`)
  t.end()
})

/** Each policy so many times that its values are common: far above what is looked through one by one. */
const COPIES = 40

function copiesOf(policies: readonly Policy[]): readonly Policy[] {
  return policies.flatMap((policy) =>
    Array.from({ length: COPIES }, (_, copy) => ({
      ...policy,
      name: `${policy.name}-${copy}`,
      key: `${policy.key}-${copy}` as Policy['key'],
      // Unlike one another as well: by what no call meets, at some place among what it may meet.
      rules: policy.rules.map((rule) => ({
        ...rule,
        clauses: rule.clauses.map(({ matches }) => ({
          matches: matches.map((match) => ({
            ...match,
            ...(match.notPrincipals.length > 0 && {
              notPrincipals: [
                ...match.notPrincipals,
                { kind: 'exact' as const, text: `no/${copy}` },
              ],
            }),
            ...(match.destinationPorts.length > 0 && {
              destinationPorts: [20_000 + copy, ...match.destinationPorts],
            }),
          })),
        })),
      })),
    })),
  )
}

void t.test('so it is where dozens of rules share their values, and their exceptions', (t) => {
  const seen = new Map<string, number>()
  fc.assert(
    fc.property(anyPolicies, fc.array(anyCall, { minLength: 1, maxLength: 4 }), (few, calls) => {
      const policies = copiesOf(few)
      const set = PolicySet.of(policies)
      for (const call of calls) {
        const expected = naiveVerdict(policies, call)
        const [kind = ''] = expected.split(' ')
        seen.set(kind, (seen.get(kind) ?? 0) + 1)
        const verdict = textOf(set, call)
        if (verdict !== expected) throw new Error(`${verdict}, expected: ${expected}`)
        const reports = set.reports(call).map(placeOf).join(' ')
        const expectedReports = naiveReports(policies, call).join(' ')
        if (reports !== expectedReports) throw new Error(`${reports}, expected: ${expectedReports}`)
      }
    }),
    { numRuns: 150 },
  )
  for (const kind of ['denied', 'allowed', 'notAllowed'])
    t.ok((seen.get(kind) ?? 0) > 5, `${kind} was seen ${seen.get(kind) ?? 0} times`)
  t.end()
})

void t.test(
  'of many rules that cannot be told the first is named, unless another certainly matches',
  (t) => {
    const notCaller = {
      notPrincipals: [{ kind: 'exact' as const, text: 'cluster.local/ns/shop/sa/x' }],
    }
    const matches = Array.from({ length: 100 }, () => ({ ...notCaller, isPartlyUnread: true }))
    const untold = samplePolicy('untold', 'deny', matches)
    const told = samplePolicy('told', 'deny', [
      ...Array.from({ length: 50 }, () => ({ ...notCaller, destinationPorts: [9] })),
      notCaller,
    ])
    t.equal(verdictOf([untold], sampleCall()), 'unknown shop/untold#0')
    t.equal(verdictOf([untold, told], sampleCall()), 'denied shop/told#50')
    const x = 'spiffe://cluster.local/ns/shop/sa/x' as SpiffeId
    t.equal(verdictOf([untold, told], sampleCall({ identity: x })), 'allowed')
    t.end()
  },
)

void t.test('a set that is made of another says what one compiled anew says', (t) => {
  const anyKept = fc.array(fc.boolean(), { minLength: 16, maxLength: 16 })
  let overlaid = 0
  fc.assert(
    fc.property(
      anyPolicies,
      anyPolicies,
      fc.array(anyKept, { minLength: 1, maxLength: 3 }),
      fc.array(anyCall, { minLength: 1, maxLength: 4 }),
      (before, others, steps, calls) => {
        const all = [
          ...before,
          ...others.map((policy) => ({ ...policy, key: `${policy.key}'` as Policy['key'] })),
        ].sort((left, right) => (left.key < right.key ? -1 : 1))
        let set = PolicySet.of(all.filter((policy) => before.includes(policy)))
        for (const kept of steps) {
          // Whatever comes, goes, and is put in another place.
          const some = all.filter((_, index) => kept[index] === true)
          const policies = kept[15] === true || kept[14] === true ? some : some.toReversed()
          const changed = set.changed(policies, 1_000)
          set = changed?.set ?? PolicySet.of(policies)
          overlaid += changed?.rules ?? 0
          for (const call of calls) {
            const verdict = textOf(set, call)
            const expected = naiveVerdict(policies, call)
            if (verdict !== expected) throw new Error(`${verdict}, expected: ${expected}`)
            const reports = set.reports(call).map(placeOf).join(' ')
            const expectedReports = naiveReports(policies, call).join(' ')
            if (reports !== expectedReports)
              throw new Error(`${reports}, expected: ${expectedReports}`)
          }
        }
      },
    ),
    { numRuns: 500 },
  )
  t.ok(overlaid > 500, `${overlaid} rules had changed`)
  t.end()
})

void t.test('a set with more changed rules than one allows is to be compiled anew', (t) => {
  const big = samplePolicy(
    'big',
    'deny',
    Array.from({ length: 20 }, () => ({ destinationPorts: [1] })),
  )
  const small = samplePolicy('small', 'deny', [{ destinationPorts: [2] }])
  const set = PolicySet.of([big])
  t.equal(set.changed([big, small], 20)?.rules, 1)
  t.equal(set.changed([small], 20), undefined, 'what has gone counts as well')
  t.equal(set.changed([big], 0)?.rules, 0)
  t.end()
})
