// SPDX-License-Identifier: Apache-2.0
// Lines of the audit for people: when, what happened, who did it to what, and which object and rule decided.

import { clean } from './clean.ts'
import { parseJson } from '../../mesh/json.ts'

/** A line as it was read; undefined for what is none. */
export interface AuditLine {
  readonly time: string
  readonly raw: string
  readonly fields: Readonly<Record<string, unknown>>
}

/** Reads a line. */
export function readAuditLine(raw: string): AuditLine | undefined {
  const json = parseJson(raw)
  if (!json.ok || typeof json.value !== 'object' || json.value === null) return undefined
  const fields = json.value as Readonly<Record<string, unknown>>
  const { time } = fields
  return typeof time === 'string' ? { time, raw, fields } : undefined
}

/** The lines of several components as one audit. */
export function inOrder(lines: readonly AuditLine[]): readonly AuditLine[] {
  return lines.toSorted((one, other) => one.time.localeCompare(other.time))
}

/** One line of text. */
export function auditText({ time, fields }: AuditLine): string {
  const { audit, who, what, object, rule, why, leftOut } = fields
  const decided = object === undefined ? '' : ` [${word(object)}${ruleText(rule)}]`
  const missing = leftOut === undefined ? '' : ` (and ${word(leftOut)} more were left out)`
  return `${time}  ${word(audit).padEnd(18)}  ${word(who)} -> ${word(what)}: ${word(why)}${decided}${missing}`
}

/** Rules are counted from 0, as they stand in `spec.rules`. */
function ruleText(rule: unknown): string {
  return rule === undefined ? '' : ` rules[${word(rule)}]`
}

function word(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? clean(String(value)) : ''
}
