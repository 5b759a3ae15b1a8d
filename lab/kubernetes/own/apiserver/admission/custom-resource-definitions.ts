// SPDX-License-Identifier: Apache-2.0
// CustomResourceDefinitions: checks, the conditions that clients wait for, and serving what they define.

import { ok } from '../../../../../mesh/result.ts'
import {
  type FieldError,
  invalidValue,
  required,
  unsupportedValue,
} from '../../../objects/refusals.ts'
import {
  type Draft,
  at,
  ensureRecord,
  record,
  records,
  setDefault,
  text,
} from '../../../objects/json.ts'
import { definedResource } from '../../../objects/custom-resource-types.ts'
import type { Strategy } from './strategy.ts'

const SCOPES = ['Namespaced', 'Cluster']

function setDefaults(draft: Draft): void {
  const spec = ensureRecord(draft, 'spec')
  const names = ensureRecord(spec, 'names')
  const kind = text(names.kind)
  if (kind !== undefined) {
    setDefault(names, 'singular', kind.toLowerCase())
    setDefault(names, 'listKind', `${kind}List`)
  }
  setDefault(spec, 'conversion', { strategy: 'None' })
}

function validate(draft: Draft): readonly FieldError[] {
  const spec = record(draft.spec) ?? {}
  const errors: FieldError[] = []
  const group = text(spec.group) ?? ''
  const plural = text(at(spec, 'names', 'plural')) ?? ''
  if (group === '') errors.push(required('spec.group'))
  if (plural === '') errors.push(required('spec.names.plural'))
  if ((text(at(spec, 'names', 'kind')) ?? '') === '') errors.push(required('spec.names.kind'))
  const name = text(at(draft, 'metadata', 'name'))
  if (group !== '' && plural !== '' && name !== `${plural}.${group}`)
    errors.push(invalidValue('metadata.name', name, `must be spec.names.plural+"."+spec.group`))
  if (!SCOPES.includes(String(spec.scope)))
    errors.push(unsupportedValue('spec.scope', spec.scope ?? '', SCOPES))
  const versions = records(spec.versions)
  if (versions.length === 0) errors.push(required('spec.versions'))
  if (versions.length > 0 && versions.filter((one) => one.storage === true).length !== 1)
    errors.push(
      invalidValue(
        'spec.versions',
        versions.map((one) => one.name),
        'must have exactly one version marked as storage version',
      ),
    )
  for (const [index, version] of versions.entries())
    if (record(at(version, 'schema', 'openAPIV3Schema')) === undefined)
      errors.push(
        required(`spec.versions[${index}].schema.openAPIV3Schema`, 'schemas are required'),
      )
  return errors
}

function setStatus(draft: Draft): void {
  const spec = record(draft.spec) ?? {}
  const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z')
  const condition = (type: string, reason: string, message: string): Draft => ({
    type,
    status: 'True',
    lastTransitionTime: now,
    reason,
    message,
  })
  draft.status = {
    acceptedNames: spec.names,
    conditions: [
      condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
      condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted'),
    ],
    storedVersions: records(spec.versions)
      .filter((one) => one.storage === true)
      .map((one) => one.name),
  }
}

export const customResourceDefinitionStrategy: Strategy = {
  setDefaults,
  validate,
  admitCreate: (draft) => {
    setStatus(draft)
    return ok(undefined)
  },
  afterStore: (object, { resources }) => resources.add(definedResource(object)),
  afterRemove: (object, { resources, store }) => {
    const { id } = definedResource(object)
    // The definition's resources go with it.
    for (const custom of store.list(id))
      store.remove(id, custom, JSON.parse(JSON.stringify(custom)) as Draft)
    resources.remove(id)
  },
}
