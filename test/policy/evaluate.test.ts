// SPDX-License-Identifier: Apache-2.0
// What policies say of calls: as the specification reads (the witness is in naive.ts), and in stories of every field.

import fc from 'fast-check'
import t from 'tap'
import type { Policy } from '../../mesh/model/policy.ts'
import { PolicySet } from '../../mesh/policy/evaluate.ts'
import type { PolicyCall, PolicyHit } from '../../mesh/policy/types.ts'
import { naiveReports, naiveVerdict } from './naive.ts'
import { anyCall, anyPolicies } from './samples.ts'

const placeOf = ({ policy, rule }: PolicyHit): string =>
  `${policy.key}#${policy.rules.indexOf(rule)}`

function verdictOf(policies: readonly Policy[], call: PolicyCall): string {
  const verdict = new PolicySet(policies).evaluate(call)
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
        for (const call of calls) {
          const expected = naiveVerdict(policies, call)
          const [kind = ''] = expected.split(' ')
          seen.set(kind, (seen.get(kind) ?? 0) + 1)
          const verdict = verdictOf(policies, call)
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
      const reports = new PolicySet(policies).reports(call).map(placeOf)
      reported += reports.length
      const expected = naiveReports(policies, call)
      if (reports.join(' ') !== expected.join(' '))
        throw new Error(`${reports.join(' ')}, expected: ${expected.join(' ')}`)
      const enforced = policies.filter(({ isDryRun, isAudit }) => !isDryRun && !isAudit)
      return verdictOf(policies, call) === verdictOf(enforced, call)
    }),
    { numRuns: 2_000 },
  )
  t.ok(reported > 100, `${reported} reports`)
  t.end()
})
