// SPDX-License-Identifier: Apache-2.0
// A flood of lines is cut, what was cut is told, and time brings lines back.

import t from 'tap'
import { LogBudget } from '../../mesh/telemetry/log-budget.ts'

void t.test('a flood gets its burst, then its rate, and each gap is told once', (t) => {
  let now = 0
  const budget = new LogBudget({ burst: 3, perSecond: 2 }, () => now)
  t.same(
    [1, 2, 3, 4, 5, 6].map(() => budget.take()),
    [0, 0, 0, undefined, undefined, undefined],
  )
  now += 500
  t.equal(budget.take(), 3, 'one line is back, and says how many are missing before it')
  t.equal(budget.take(), undefined)
  now += 60_000
  t.same(
    [1, 2, 3, 4].map(() => budget.take()),
    [1, 0, 0, undefined],
    'a long silence gives the burst and no more',
  )
  t.end()
})
