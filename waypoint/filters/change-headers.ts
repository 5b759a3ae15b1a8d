// SPDX-License-Identifier: Apache-2.0
// RequestHeaderModifier and ResponseHeaderModifier: what the filters of a rule, and then those of a backend, change of the fields.

import {
  type HeaderChange,
  type HeaderEdits,
  headerEditProblem,
  headerEdits,
} from '../../mesh/http/header-edits.ts'
import type { HttpFilter } from '../../mesh/model/http-routes.ts'
import { err, ok, type Result } from '../../mesh/result.ts'

/** The changes of all filters of a kind, made ready; undefined when there are none, an error when one cannot be made. */
export function changeHeaders(
  filters: readonly HttpFilter[],
  kind: 'requestHeaders' | 'responseHeaders',
): Result<HeaderEdits | undefined, string> {
  const changes: HeaderChange[] = []
  for (const filter of filters) {
    if (filter.kind !== kind) continue
    const { set, add, remove } = filter.edit
    for (const { name, value } of [...set, ...add]) {
      const problem = headerEditProblem(name, value)
      if (problem !== undefined) return err(`${JSON.stringify(name)} ${problem}`)
    }
    for (const name of remove) {
      const problem = headerEditProblem(name)
      if (problem !== undefined) return err(`${JSON.stringify(name)} ${problem}`)
    }
    changes.push(filter.edit)
  }
  return ok(changes.length === 0 ? undefined : headerEdits(...changes))
}
