// SPDX-License-Identifier: Apache-2.0
// Server-side printing: turns objects into the Table that `kubectl get` shows.

import type { ResourceType } from '../../../objects/resource-types.ts'
import type { JsonObject, StoredObject } from '../../../objects/stored-object.ts'
import { age, evaluateJsonPath } from './cells.ts'
import { COLUMNS, type Column, GENERAL_COLUMNS } from './columns.ts'

/** How much of each object goes into its row. */
export type IncludeObject = 'None' | 'Metadata' | 'Object'

function columnsOf(type: ResourceType, version: string): readonly Column[] {
  const custom = type.versions.find((one) => one.version === version)?.columns
  if (custom === undefined) return COLUMNS[type.id] ?? GENERAL_COLUMNS
  const [name] = GENERAL_COLUMNS
  return [
    ...(name === undefined ? [] : [name]),
    ...custom.map(
      (column): Column => ({
        name: column.name,
        priority: column.priority,
        value: (object, now) => {
          const value = evaluateJsonPath(object, column.jsonPath)
          if (column.type === 'date') return age(value, now)
          return typeof value === 'object' && value !== null ? JSON.stringify(value) : (value ?? '')
        },
      }),
    ),
  ]
}

/** Only the metadata of an object, in the type made for it. */
export function partialMetadata(object: StoredObject, version = 'v1'): JsonObject {
  return {
    kind: 'PartialObjectMetadata',
    apiVersion: `meta.k8s.io/${version}`,
    metadata: object.metadata,
  }
}

export interface TableRequest {
  readonly type: ResourceType
  readonly version: string
  readonly tableVersion: string
  readonly includeObject: IncludeObject
  readonly resourceVersion: string
  readonly now: number
}

/** Prints objects as rows. */
export function tableOf(objects: readonly StoredObject[], request: TableRequest): JsonObject {
  const columns = columnsOf(request.type, request.version)
  return {
    kind: 'Table',
    apiVersion: `meta.k8s.io/${request.tableVersion}`,
    metadata: { resourceVersion: request.resourceVersion },
    columnDefinitions: columns.map((column) => ({
      name: column.name,
      type: column.type ?? 'string',
      format: column.name === 'Name' ? 'name' : '',
      description: '',
      priority: column.priority ?? 0,
    })),
    rows: objects.map((object) => ({
      cells: columns.map((column) => (column.value(object, request.now) ?? '') as string),
      ...(request.includeObject === 'None'
        ? {}
        : {
            object:
              request.includeObject === 'Metadata'
                ? partialMetadata(object)
                : (object as unknown as JsonObject),
          }),
    })),
  }
}
