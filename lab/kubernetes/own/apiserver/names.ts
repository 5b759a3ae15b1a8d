// SPDX-License-Identifier: Apache-2.0
// The syntax of names, labels and annotations, and checks of an object's metadata against it.

import { randomInt } from 'node:crypto'
import { type FieldError, invalidValue, required } from '../../objects/refusals.ts'
import { type Draft, record, text } from '../../objects/json.ts'

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/
const DNS_SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const QUALIFIED_NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/
/** RBAC names such as system:node may hold anything that is not part of a path. */
const PATH_SEGMENT = /^(?!\.\.?$)[^/%]+$/

const MAX_LABEL = 63
const MAX_SUBDOMAIN = 253
const MAX_ANNOTATION_BYTES = 256 * 1024

/** generateName keeps room for its suffix within a DNS label. */
const MAX_GENERATED_BASE = 58
const SUFFIX_LENGTH = 5
/** No vowels and no look-alikes, so that no words appear. */
const SUFFIX_ALPHABET = 'bcdfghjklmnpqrstvwxz2456789'

const LABEL_RULE =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
const SUBDOMAIN_RULE =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
const QUALIFIED_RULE =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName', or 'my.name', or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
const VALUE_RULE =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"

export type NameKind = 'label' | 'subdomain' | 'path-segment'

/** Why a name is not valid, or undefined. */
export function nameProblem(name: string, kind: NameKind): string | undefined {
  if (kind === 'path-segment')
    return PATH_SEGMENT.test(name) ? undefined : "may not contain '/' or '%', or be '.' or '..'"
  const [pattern, limit, rule] =
    kind === 'label'
      ? ([DNS_LABEL, MAX_LABEL, LABEL_RULE] as const)
      : ([DNS_SUBDOMAIN, MAX_SUBDOMAIN, SUBDOMAIN_RULE] as const)
  if (name.length > limit) return `must be no more than ${limit} bytes`
  return pattern.test(name) ? undefined : rule
}

/** `base` plus a random suffix, as generateName asks for. */
export function generateName(base: string): string {
  const suffix = Array.from(
    { length: SUFFIX_LENGTH },
    () => SUFFIX_ALPHABET[randomInt(SUFFIX_ALPHABET.length)],
  ).join('')
  return `${base.slice(0, MAX_GENERATED_BASE)}${suffix}`
}

/** Why a label or annotation key is not valid, or undefined. */
function qualifiedNameProblem(key: string): string | undefined {
  const slash = key.indexOf('/')
  const name = slash === -1 ? key : key.slice(slash + 1)
  if (slash !== -1) {
    const prefixProblem = nameProblem(key.slice(0, slash), 'subdomain')
    if (prefixProblem !== undefined) return `prefix part ${prefixProblem}`
  }
  if (name === '') return 'name part must be non-empty'
  if (name.length > MAX_LABEL) return `name part must be no more than ${MAX_LABEL} bytes`
  return QUALIFIED_NAME.test(name) ? undefined : QUALIFIED_RULE
}

/** Checks a map of labels at a path. */
export function labelErrors(labels: unknown, path: string): readonly FieldError[] {
  return Object.entries(record(labels) ?? {}).flatMap(([key, value]) => {
    const keyProblem = qualifiedNameProblem(key)
    if (keyProblem !== undefined) return [invalidValue(path, key, keyProblem)]
    const valueText = text(value)
    if (valueText === undefined) return [invalidValue(`${path}.${key}`, value, 'must be a string')]
    if (valueText.length > MAX_LABEL)
      return [invalidValue(path, valueText, `must be no more than ${MAX_LABEL} bytes`)]
    return LABEL_VALUE.test(valueText) ? [] : [invalidValue(path, valueText, VALUE_RULE)]
  })
}

function annotationErrors(annotations: unknown): readonly FieldError[] {
  const path = 'metadata.annotations'
  let bytes = 0
  const errors: FieldError[] = []
  for (const [key, value] of Object.entries(record(annotations) ?? {})) {
    const problem = qualifiedNameProblem(key.toLowerCase())
    if (problem !== undefined) errors.push(invalidValue(path, key, problem))
    const valueText = text(value)
    if (valueText === undefined)
      errors.push(invalidValue(`${path}.${key}`, value, 'must be a string'))
    bytes += key.length + (valueText?.length ?? 0)
  }
  if (bytes > MAX_ANNOTATION_BYTES)
    errors.push(
      invalidValue(path, `${bytes} bytes`, `must have at most ${MAX_ANNOTATION_BYTES} bytes`),
    )
  return errors
}

/** Checks the metadata of any object. */
export function metadataErrors(metadata: Draft, nameKind: NameKind): readonly FieldError[] {
  const name = text(metadata.name)
  const problem = name === undefined || name === '' ? undefined : nameProblem(name, nameKind)
  return [
    ...(name === undefined || name === ''
      ? [required('metadata.name', 'name or generateName is required')]
      : []),
    ...(problem === undefined ? [] : [invalidValue('metadata.name', name, problem)]),
    ...labelErrors(metadata.labels, 'metadata.labels'),
    ...annotationErrors(metadata.annotations),
  ]
}
