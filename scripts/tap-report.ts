// SPDX-License-Identifier: Apache-2.0
// Reads the TAP text of one test file: how many points passed, failed and were skipped, and what the failed ones say.

/** A test point that failed, by the names of the subtests it stands in, with its diagnostics. */
export interface TapFailure {
  readonly name: string
  readonly diagnostics: readonly string[]
}

/** What one test file reported. */
export interface TapReport {
  passed: number
  readonly failures: TapFailure[]
  /** The reason of each skipped test. */
  readonly skips: string[]
}

/** TAP indents a subtest by this many columns. */
const INDENT = 4

const POINT = /^(not )?ok\b\s*\d*\s*(?:- )?(.*)$/

/**
 * Counts the leaves: the line that closes a subtest repeats what its points said, and counts only when it failed and
 * none of them did, e.g. by its deadline or its plan.
 */
export function readTap(tap: string): TapReport {
  const report: TapReport = { passed: 0, failures: [], skips: [] }
  const subtests: string[] = []
  const hasPoints: boolean[] = []
  const hasFailed: boolean[] = []
  let diagnostics: string[] | undefined
  let insideYaml = false

  for (const line of tap.split('\n')) {
    const text = line.trim()
    if (insideYaml) {
      if (text === '...') insideYaml = false
      else diagnostics?.push(line)
      continue
    }
    if (text === '---') {
      insideYaml = true
      continue
    }
    const depth = Math.floor(line.search(/\S|$/) / INDENT)
    const subtest = /^# Subtest: (.*)$/.exec(text)
    if (subtest !== null) subtests[depth] = subtest[1] ?? ''
    const emptyPlan = /^1\.\.0 # (?:SKIP )?(.*)$/.exec(text)
    if (emptyPlan !== null && depth === 0) report.skips.push(emptyPlan[1] ?? '')
    if (text.startsWith('Bail out!')) report.failures.push({ name: text, diagnostics: [] })

    const point = POINT.exec(text)
    // A line that ends in a brace opens a buffered subtest; its points follow.
    if (point === null || text.endsWith('{')) continue
    const failed = point[1] !== undefined
    const description = point[2] ?? ''
    const directive = /# (?:SKIP|TODO)\b\s*(.*)$/i.exec(description)
    const closesSubtest = hasPoints[depth + 1] === true
    const repeats = closesSubtest && (!failed || hasFailed[depth + 1] === true)
    hasPoints.length = hasFailed.length = depth + 1
    hasPoints[depth] = true
    hasFailed[depth] = hasFailed[depth] === true || (failed && directive === null)
    diagnostics = undefined
    if (repeats) continue
    if (directive !== null) report.skips.push(directive[1] ?? '')
    else if (failed) {
      const own = description.replace(/ # time=.*$/, '')
      diagnostics = []
      report.failures.push({
        name: [...subtests.slice(0, depth), own].join(' > '),
        diagnostics,
      })
    } else report.passed += 1
  }
  return report
}
