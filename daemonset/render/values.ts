// SPDX-License-Identifier: Apache-2.0
// The values of the chart: its defaults, files and --set over one another as Helm merges them.

import { readFileSync } from 'node:fs'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { parseYamlDocuments } from '../../mesh/kube/yaml.ts'
import { isRecord } from './functions.ts'

export type Values = Readonly<Record<string, unknown>>

/** A file of values. Throws AMB_CHART_VALUES with file and line, without a word of what stands there. */
export function readValuesFile(file: string): Values {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (thrown) {
    throw refused(`Cannot read ${file}: ${errorMessage(thrown)}`)
  }
  const documents = parseYamlDocuments(text)
  if (!documents.ok) {
    const { line, field, what } = documents.error
    throw refused(`Cannot read ${file}:${line}: ${field === '' ? '' : `field ${field}: `}${what}`)
  }
  // Nobody would miss what is not read.
  if (documents.value.length > 1)
    throw refused(
      `Cannot read ${file}: it has ${documents.value.length} documents, and values are one`,
    )
  const value = documents.value[0]?.value ?? {}
  if (!isRecord(value)) throw refused(`Cannot read ${file}: values are a mapping`)
  return value
}

/** Values over the chart's own: mappings are merged, all else is replaced, and null takes a value away. */
export function mergeValues(below: Values, above: Values): Values {
  const merged: Record<string, unknown> = { ...below }
  for (const [key, value] of Object.entries(above)) {
    const known = merged[key]
    if (value === null) delete merged[key]
    else merged[key] = isRecord(known) && isRecord(value) ? mergeValues(known, value) : value
  }
  return merged
}

/** What is given later over what was given before: null stays, for it is the chart's own value that it takes away. */
export function overlayValues(below: Values, above: Values): Values {
  const merged: Record<string, unknown> = { ...below }
  for (const [key, value] of Object.entries(above)) {
    const known = merged[key]
    merged[key] = isRecord(known) && isRecord(value) ? overlayValues(known, value) : value
  }
  return merged
}

/** An error about values. */
export function refused(what: string): AmbitError {
  return new AmbitError('AMB_CHART_VALUES', what)
}
