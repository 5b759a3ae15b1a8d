// SPDX-License-Identifier: Apache-2.0
// CustomResourceDefinitions: checks, the conditions that clients wait for, and serving what they define.

import { ok } from '../../../../../mesh/result.ts'
import { type FieldError, invalidValue, required, unsupportedValue } from '../failures.ts'
import {
  type Draft,
  at,
  ensureRecord,
  integer,
  record,
  records,
  setDefault,
  text,
  texts,
} from '../json.ts'
import { type PrinterColumn, type ResourceType, resourceId } from '../resources.ts'
import type { KubeObject } from '../types.ts'
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

/** v1 before v1beta2 before v1beta1 before v1alpha1, as discovery orders versions. */
function versionRank(version: string): readonly [number, number, number] {
  const parts = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version)
  if (parts === null) return [0, 0, 0]
  const stage = parts[2] === undefined ? 3 : parts[2] === 'beta' ? 2 : 1
  return [stage, Number(parts[1]), Number(parts[3] ?? 0)]
}

function compareVersions(left: string, right: string): number {
  const [leftRank, rightRank] = [versionRank(left), versionRank(right)]
  for (const index of [0, 1, 2] as const)
    if (leftRank[index] !== rightRank[index]) return rightRank[index] - leftRank[index]
  return left < right ? -1 : 1
}

function columnsOf(version: Draft): readonly PrinterColumn[] | undefined {
  const columns = records(version.additionalPrinterColumns)
  if (columns.length === 0) return undefined
  return columns.map((column) => ({
    name: text(column.name) ?? '',
    type: text(column.type) ?? 'string',
    jsonPath: text(column.jsonPath) ?? '',
    priority: integer(column.priority) ?? 0,
  }))
}

/** The resource that a valid definition defines. */
export function definedResource(definition: KubeObject): ResourceType {
  const spec = definition.spec ?? {}
  const names = record(spec.names) ?? {}
  const group = text(spec.group) ?? ''
  const plural = text(names.plural) ?? ''
  const kind = text(names.kind) ?? ''
  const versions = records(spec.versions)
  const storage = versions.find((version) => version.storage === true)
  const subresources = versions.flatMap((version) =>
    Object.keys(record(version.subresources) ?? {}),
  )
  return {
    id: resourceId(group, plural),
    group,
    plural,
    singular: text(names.singular) ?? kind.toLowerCase(),
    kind,
    listKind: text(names.listKind) ?? `${kind}List`,
    namespaced: spec.scope === 'Namespaced',
    shortNames: texts(names.shortNames),
    categories: texts(names.categories),
    versions: versions
      .filter((version) => version.served === true)
      .map((version) => ({
        version: text(version.name) ?? '',
        schema: record(at(version, 'schema', 'openAPIV3Schema')),
        columns: columnsOf(version),
      }))
      .toSorted((left, right) => compareVersions(left.version, right.version)),
    storageVersion: text(storage?.name) ?? '',
    subresources: [...new Set(subresources)].filter((name) => name === 'status'),
    hasGeneration: true,
    isCustom: true,
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
