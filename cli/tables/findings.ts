// SPDX-License-Identifier: Apache-2.0
// What `analyze` found, for people: worst first, each with its object and field, what is wrong and what to do.

import { clean } from './clean.ts'
import type { Analysis } from '../analyze/analyze.ts'
import { SEVERITIES } from '../analyze/catalogue.ts'
import { type Finding, refName } from '../analyze/finding.ts'

/** The lines. */
export function findingLines({ findings, notChecked }: Analysis): readonly string[] {
  return [
    ...findings.flatMap(lines),
    ...notChecked.map(
      ({ codes, kinds }) =>
        `not checked everywhere: ${codes.join(', ')} (${kinds.join(', ')} could not be read)`,
    ),
    ...(notChecked.length > 0 ? [''] : []),
    summary(findings),
  ]
}

function lines({ code, severity, object, field, what, change, where }: Finding): readonly string[] {
  return [
    `${severity.padEnd(7)} ${code}  ${clean(`${object.kind} ${refName(object)}  ${field}`)}`,
    ...(where === undefined ? [] : [`${INDENT}at ${clean(where)}`]),
    `${INDENT}${clean(what)}`,
    `${INDENT}${clean(change)}`,
    '',
  ]
}

/** Below the object. */
const INDENT = ' '.repeat(16)

function summary(findings: readonly Finding[]): string {
  if (findings.length === 0) return 'Nothing is wrong, as far as can be seen.'
  return SEVERITIES.flatMap((severity) => {
    const count = findings.filter((each) => each.severity === severity).length
    return count === 0 ? [] : [`${count} ${severity}${count === 1 ? '' : 's'}`]
  }).join(', ')
}
