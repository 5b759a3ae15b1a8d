// SPDX-License-Identifier: Apache-2.0
// The resource types that CustomResourceDefinitions define: pure.

import { at, type Draft, integer, record, records, text, texts } from './json.ts'
import { type PrinterColumn, resourceId, type ResourceType } from './resource-types.ts'
import type { StoredObject } from './stored-object.ts'

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
export function definedResource(definition: StoredObject): ResourceType {
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
    version: text(storage?.name) ?? '',
    subresources: [...new Set(subresources)].filter((name) => name === 'status'),
    hasGeneration: true,
    isCustom: true,
  }
}
