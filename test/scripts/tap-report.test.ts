// SPDX-License-Identifier: Apache-2.0
// Counting test points, as `npm test` does for its last line.

import t from 'tap'
import { readTap } from '../../scripts/tap-report.ts'

await t.test(
  'readTap() counts the points of a subtest, and not the line that closes it',
  async (t) => {
    const report = readTap(`TAP version 14
# Subtest: a story
    ok 1 - one
    # Subtest: deeper
        ok 1 - two
        1..1
    ok 2 - deeper # time=1ms
    1..2
ok 1 - a story # time=3ms

ok 2 - a leaf
1..2
`)
    t.same(report, { passed: 3, failures: [], skips: [] })
  },
)

await t.test(
  'readTap() names a failed point by its subtests and keeps its diagnostics',
  async (t) => {
    const report = readTap(`TAP version 14
# Subtest: a story
    not ok 1 - the same
      ---
      found: ok 7
      ok 1: not a point
      ...
    1..1
    # failed 1 test
not ok 1 - a story # time=3ms
1..1
`)
    t.equal(report.passed, 0)
    t.same(report.failures, [
      {
        name: 'a story > the same',
        diagnostics: ['      found: ok 7', '      ok 1: not a point'],
      },
    ])
  },
)

await t.test('readTap() counts a subtest that failed although all its points passed', async (t) => {
  const report = readTap(`# Subtest: hangs
    ok 1 - began
    1..1
not ok 1 - hangs # time=30000ms
  ---
  signal: SIGTERM
  ...
1..1
`)
  t.equal(report.passed, 1)
  t.same(report.failures, [{ name: 'hangs', diagnostics: ['  signal: SIGTERM'] }])
})

await t.test(
  'readTap() gives the reason of each skipped test, and of a file that skips itself',
  async (t) => {
    t.same(readTap('ok 1 - on a kernel # SKIP needs root\n1..1\n').skips, ['needs root'])
    t.same(readTap('not ok 1 - later # TODO when it is built\n1..1\n').skips, ['when it is built'])
    t.same(readTap('1..0 # needs root\n').skips, ['needs root'])
  },
)

await t.test('readTap() reads buffered subtests', async (t) => {
  const report = readTap(
    'ok 1 - buffered # time=3ms {\n    ok 1 - a\n    ok 2 - b\n    1..2\n}\n\n1..1\n',
  )
  t.equal(report.passed, 2)
})
