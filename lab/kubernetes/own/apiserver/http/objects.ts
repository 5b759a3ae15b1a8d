// SPDX-License-Identifier: Apache-2.0
// Objects and lists on their way out, in the version and the form (plain, table, metadata) asked for.

import type { ServerResponse } from 'node:http'
import { stringifyOnce } from '../../../objects/json.ts'
import { type ResourceType, apiVersionOf } from '../../../objects/resource-types.ts'
import { type IncludeObject, partialMetadata, tableOf } from '../table/index.ts'
import type { StoredObject } from '../../../objects/stored-object.ts'
import { type Form, sendJson, sendText } from './respond.ts'

/** How one client wants to see the objects of one resource. */
export interface View {
  readonly type: ResourceType
  readonly version: string
  readonly form: Form
  readonly includeObject: IncludeObject
}

/** includeObject of a query. */
export function includeObjectOf(query: URLSearchParams): IncludeObject {
  const wanted = query.get('includeObject')
  return wanted === 'None' || wanted === 'Object' ? wanted : 'Metadata'
}

/** An object under the apiVersion the client speaks. */
function inVersion(object: StoredObject, type: ResourceType, version: string): StoredObject {
  if (!type.isCustom || version === type.version) return object
  return { ...object, apiVersion: apiVersionOf(type, version) }
}

/** JSON text of an object in the form of the view. */
export function objectText(object: StoredObject, view: View): string {
  const { type, version, form, includeObject } = view
  switch (form.kind) {
    case 'plain':
      return stringifyOnce(inVersion(object, type, version))
    case 'metadata':
      return JSON.stringify(partialMetadata(object, form.version))
    case 'table':
      return JSON.stringify(
        tableOf([inVersion(object, type, version)], {
          type,
          version,
          tableVersion: form.version,
          includeObject,
          resourceVersion: object.metadata.resourceVersion,
          now: Date.now(),
        }),
      )
  }
}

export function sendObject(
  response: ServerResponse,
  code: number,
  object: StoredObject,
  view: View,
  warnings: readonly string[] = [],
): void {
  sendText(response, code, objectText(object, view), 'application/json', {
    ...(warnings.length === 0
      ? {}
      : { warning: warnings.map((warning) => `299 - ${JSON.stringify(warning)}`) }),
  })
}

export function sendList(
  response: ServerResponse,
  objects: readonly StoredObject[],
  revision: number,
  view: View,
): void {
  const { type, version, form, includeObject } = view
  const resourceVersion = String(revision)
  switch (form.kind) {
    case 'plain': {
      const head = JSON.stringify({
        kind: type.listKind,
        apiVersion: apiVersionOf(type, version),
        metadata: { resourceVersion },
      })
      const items = objects.map((object) => stringifyOnce(inVersion(object, type, version)))
      sendText(response, 200, `${head.slice(0, -1)},"items":[${items.join(',')}]}`)
      return
    }
    case 'metadata':
      sendJson(response, 200, {
        kind: 'PartialObjectMetadataList',
        apiVersion: `meta.k8s.io/${form.version}`,
        metadata: { resourceVersion },
        items: objects.map((object) => partialMetadata(object, form.version)),
      })
      return
    case 'table':
      sendJson(
        response,
        200,
        tableOf(
          objects.map((object) => inVersion(object, type, version)),
          {
            type,
            version,
            tableVersion: form.version,
            includeObject,
            resourceVersion,
            now: Date.now(),
          },
        ),
      )
  }
}
