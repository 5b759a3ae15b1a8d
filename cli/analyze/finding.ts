// SPDX-License-Identifier: Apache-2.0
// What is wrong with an object, as data.

import { CATALOGUE, type FindingCode, SEVERITIES, type Severity } from './catalogue.ts'

export interface ObjectRef {
  readonly kind: string
  /** Empty for what lies in no namespace. */
  readonly namespace: string
  readonly name: string
}

export interface Finding {
  readonly code: FindingCode
  readonly severity: Severity
  readonly object: ObjectRef
  /** Its place in the object, `spec.rules[0]`. */
  readonly field: string
  readonly what: string
  /** What to do. */
  readonly change: string
  /** FILE:LINE, of what was read from a file. */
  readonly where?: string
}

/** A finding of that code; the catalogue says how bad it is and, unless something better is known, what to do. */
export function finding(
  code: FindingCode,
  { kind, namespace, name }: ObjectRef,
  field: string,
  what: string,
  change: string = CATALOGUE[code].cure,
): Finding {
  const { severity } = CATALOGUE[code]
  return { code, severity, object: { kind, namespace, name }, field, what, change }
}

/** `shop/catalog`, or the name alone. */
export function refName({ namespace, name }: Pick<ObjectRef, 'namespace' | 'name'>): string {
  return namespace === '' ? name : `${namespace}/${name}`
}

/** Whether one is as bad as that, or worse. */
export function isAtLeast(severity: Severity, least: Severity): boolean {
  return SEVERITIES.indexOf(severity) <= SEVERITIES.indexOf(least)
}

/** The worst first, then by object. */
export function inOrder(findings: readonly Finding[]): readonly Finding[] {
  const keyOf = ({ severity, object, code, field }: Finding): string =>
    [SEVERITIES.indexOf(severity), object.namespace, object.kind, object.name, code, field].join(
      '\n',
    )
  return findings
    .map((each) => ({ each, key: keyOf(each) }))
    .toSorted((one, other) => (one.key < other.key ? -1 : one.key > other.key ? 1 : 0))
    .map(({ each }) => each)
}
