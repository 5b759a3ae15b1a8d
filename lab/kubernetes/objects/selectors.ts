// SPDX-License-Identifier: Apache-2.0
// Label and field selectors as the API server has them: matching objects against them.

import { type Result, err, ok } from '../../../mesh/result.ts'
import {
  type LabelMatcher,
  parseLabelSelector,
  splitRequirements,
} from '../../../mesh/kube/index.ts'
import { at, record, records, stringMap, texts } from './json.ts'
import type { StoredObject } from './stored-object.ts'
import type { ListOptions } from './cluster-api.ts'

export type Matcher = (object: StoredObject) => boolean

/** Builds a matcher from a metav1.LabelSelector object (matchLabels, matchExpressions). */
export function labelSelectorObject(selector: unknown): LabelMatcher {
  const wanted = Object.entries(stringMap(at(selector, 'matchLabels')))
  const expressions = records(at(selector, 'matchExpressions'))
  return (labels) =>
    wanted.every(([key, value]) => labels[key] === value) &&
    expressions.every((expression) => {
      const actual = labels[String(expression.key)]
      const values = texts(expression.values)
      switch (expression.operator) {
        case 'In':
          return actual !== undefined && values.includes(actual)
        case 'NotIn':
          return actual === undefined || !values.includes(actual)
        case 'Exists':
          return actual !== undefined
        case 'DoesNotExist':
          return actual === undefined
        default:
          return false
      }
    })
}

/** The value a field selector compares: scalars as text, absent as the empty string, as Kubernetes does. */
function fieldText(object: StoredObject, path: readonly string[]): string {
  const value = at(object, ...path)
  return value === undefined || value === null || record(value) !== undefined ? '' : String(value)
}

/**
 * Parses `spec.nodeName=node-a,status.phase!=Failed`. Any scalar field may be named: real clusters allow
 * fewer, so what works there works here.
 */
function parseFieldSelector(selector: string): Result<Matcher, string> {
  const matchers: Matcher[] = []
  for (const requirement of splitRequirements(selector)) {
    const parts = /^([A-Za-z0-9.]+)\s*(==|=|!=)\s*(.*)$/.exec(requirement)
    if (parts === null)
      return err(`invalid field selector requirement ${JSON.stringify(requirement)}`)
    const [, field = '', operator, value] = parts
    const path = field.split('.')
    matchers.push((object) => (fieldText(object, path) === value) === (operator !== '!='))
  }
  return ok((object) => matchers.every((matches) => matches(object)))
}

/** One matcher for the selectors of a list or watch; the error is a sentence. */
export function parseSelectors(options: ListOptions): Result<Matcher, string> {
  const byLabel = parseLabelSelector(options.labelSelector ?? '')
  if (!byLabel.ok) return byLabel
  const byField = parseFieldSelector(options.fieldSelector ?? '')
  if (!byField.ok) return byField
  const { namespace } = options
  return ok(
    (object) =>
      (namespace === undefined || object.metadata.namespace === namespace) &&
      byLabel.value(object.metadata.labels ?? {}) &&
      byField.value(object),
  )
}
