// SPDX-License-Identifier: Apache-2.0
// As much OpenAPI v3 as kubectl needs: which kinds can be patched, and that the server itself checks
// fields (fieldValidation), so that kubectl leaves that to it. Schemas are those of custom resources.

import { type ResourceTable } from './resource-table.ts'
import { type ResourceType, apiVersionOf } from '../../objects/resource-types.ts'
import type { JsonObject } from '../../objects/stored-object.ts'

const QUERY_PARAMETERS = ['dryRun', 'fieldManager', 'fieldValidation', 'force'].map((name) => ({
  name,
  in: 'query',
  schema: { type: 'string', uniqueItems: true },
}))

export const OPENAPI_V2_MEDIA_TYPE = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf'
/** A document without definitions, in protobuf: field 1 (swagger) is the text 2.0. */
export const EMPTY_OPENAPI_V2 = '\u000a\u00032.0'

const pathOf = (group: string, version: string): string =>
  group === '' ? `api/${version}` : `apis/${group}/${version}`

function schemaName(type: ResourceType, version: string): string {
  const group = type.group === '' ? 'core' : type.group
  return `${group.split('.').toReversed().join('.')}.${version}.${type.kind}`
}

/** /openapi/v3: where the document of each group version lies. */
export function openApiIndex(resources: ResourceTable): JsonObject {
  const paths = new Set(
    resources
      .all()
      .flatMap((type) => type.versions.map((version) => pathOf(type.group, version.version))),
  )
  return {
    paths: Object.fromEntries(
      [...paths].map((path) => [path, { serverRelativeURL: `/openapi/v3/${path}` }]),
    ),
  }
}

/** /openapi/v3/PATH of one group version, or undefined when there is none. */
export function openApiDocument(resources: ResourceTable, path: string): JsonObject | undefined {
  const served = resources
    .all()
    .flatMap((type) =>
      type.versions
        .filter((version) => pathOf(type.group, version.version) === path)
        .map((version) => ({ type, version })),
    )
  if (served.length === 0) return undefined
  const paths = served.map(({ type, version }) => {
    const gvk = { group: type.group, version: version.version, kind: type.kind }
    const scope = type.namespaced ? '/namespaces/{namespace}' : ''
    const parameters = QUERY_PARAMETERS
    return [
      `/${path}${scope}/${type.plural}/{name}`,
      {
        get: {
          'x-kubernetes-action': 'get',
          'x-kubernetes-group-version-kind': gvk,
          responses: {},
        },
        patch: {
          'x-kubernetes-action': 'patch',
          'x-kubernetes-group-version-kind': gvk,
          parameters,
          requestBody: {
            content: {
              'application/apply-patch+yaml': {},
              'application/json-patch+json': {},
              'application/merge-patch+json': {},
            },
          },
          responses: {},
        },
      },
    ] as const
  })
  const schemas = served.map(({ type, version }) => [
    schemaName(type, version.version),
    {
      type: 'object',
      ...(version.schema as JsonObject | undefined),
      'x-kubernetes-group-version-kind': [
        { group: type.group, version: version.version, kind: type.kind },
      ],
      description: `${type.kind} of ${apiVersionOf(type, version.version)}`,
    },
  ])
  return {
    openapi: '3.0.0',
    info: { title: 'Kubernetes', version: 'unversioned' },
    paths: Object.fromEntries(paths) as JsonObject,
    components: { schemas: Object.fromEntries(schemas) as JsonObject },
  }
}
