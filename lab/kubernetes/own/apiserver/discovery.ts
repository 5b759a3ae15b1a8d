// SPDX-License-Identifier: Apache-2.0
// What the API offers: groups, versions and resources, in the old form and in the aggregated one.

import { REVIEW_TYPES, type ResourceTable } from './resource-table.ts'
import { type ResourceType } from '../../objects/resource-types.ts'
import type { JsonObject } from '../../objects/stored-object.ts'

/** The version of Kubernetes whose API is spoken. */
export const KUBERNETES_VERSION = { major: '1', minor: '32', gitVersion: 'v1.32.0' } as const

const VERBS = [
  'create',
  'delete',
  'deletecollection',
  'get',
  'list',
  'patch',
  'update',
  'watch',
] as const
const SUBRESOURCE_VERBS: { readonly [name: string]: readonly string[] } = {
  status: ['get', 'patch', 'update'],
  scale: ['get', 'patch', 'update'],
  finalize: ['update'],
  binding: ['create'],
  token: ['create'],
  exec: ['create', 'get'],
  log: ['get'],
}
/** Kinds of subresources that are not the kind of their resource. */
const SUBRESOURCE_KINDS: {
  readonly [name: string]: {
    readonly group: string
    readonly version: string
    readonly kind: string
  }
} = {
  scale: { group: 'autoscaling', version: 'v1', kind: 'Scale' },
  binding: { group: '', version: 'v1', kind: 'Binding' },
  token: { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest' },
  exec: { group: '', version: 'v1', kind: 'PodExecOptions' },
}

interface GroupVersion {
  readonly version: string
  readonly types: readonly ResourceType[]
  readonly reviews: readonly ResourceType[]
}

function groupVersions(resources: ResourceTable, group: string): readonly GroupVersion[] {
  const types = resources.all().filter((type) => type.group === group)
  const reviews = REVIEW_TYPES.filter((type) => type.group === group)
  const versions = [
    ...new Set(
      [...types, ...reviews].flatMap((type) => type.versions.map((version) => version.version)),
    ),
  ]
  const has = (type: ResourceType, version: string): boolean =>
    type.versions.some((one) => one.version === version)
  return versions.map((version) => ({
    version,
    types: types.filter((type) => has(type, version)),
    reviews: reviews.filter((type) => has(type, version)),
  }))
}

/** All groups but the core one, in the order they came to be. */
function groupNames(resources: ResourceTable): readonly string[] {
  return [...new Set([...resources.all(), ...REVIEW_TYPES].map((type) => type.group))].filter(
    (group) => group !== '',
  )
}

/** /api */
export function coreVersions(): JsonObject {
  return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] }
}

/** /apis/GROUP, or undefined when there is no such group. */
export function groupDocument(resources: ResourceTable, group: string): JsonObject | undefined {
  const versions = groupVersions(resources, group).map(({ version }) => ({
    groupVersion: `${group}/${version}`,
    version,
  }))
  const [preferredVersion] = versions
  if (preferredVersion === undefined) return undefined
  return { kind: 'APIGroup', apiVersion: 'v1', name: group, versions, preferredVersion }
}

/** /apis */
export function groupList(resources: ResourceTable): JsonObject {
  const groups = groupNames(resources)
    .map((group) => groupDocument(resources, group))
    .filter((group) => group !== undefined)
  return { kind: 'APIGroupList', apiVersion: 'v1', groups }
}

/** /api/v1 and /apis/GROUP/VERSION, or undefined when there is no such version. */
export function resourceList(
  resources: ResourceTable,
  group: string,
  version: string,
): JsonObject | undefined {
  const found = groupVersions(resources, group).find((one) => one.version === version)
  if (found === undefined) return undefined
  const entry = (type: ResourceType, verbs: readonly string[]): JsonObject => ({
    name: type.plural,
    singularName: type.singular,
    namespaced: type.namespaced,
    kind: type.kind,
    verbs,
    ...(type.shortNames.length === 0 ? {} : { shortNames: type.shortNames }),
    ...(type.categories.length === 0 ? {} : { categories: type.categories }),
  })
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: group === '' ? version : `${group}/${version}`,
    resources: [
      ...found.types.flatMap((type) => [
        entry(type, VERBS),
        ...type.subresources.map((name) => ({
          name: `${type.plural}/${name}`,
          singularName: '',
          namespaced: type.namespaced,
          kind: SUBRESOURCE_KINDS[name]?.kind ?? type.kind,
          ...(SUBRESOURCE_KINDS[name] === undefined
            ? {}
            : { group: SUBRESOURCE_KINDS[name].group, version: SUBRESOURCE_KINDS[name].version }),
          verbs: SUBRESOURCE_VERBS[name] ?? ['get'],
        })),
      ]),
      ...found.reviews.map((type) => entry(type, ['create'])),
    ],
  }
}

function aggregatedGroup(resources: ResourceTable, group: string): JsonObject {
  return {
    metadata: { name: group },
    versions: groupVersions(resources, group).map(({ version, types, reviews }) => ({
      version,
      freshness: 'Current',
      resources: [
        ...types.map((type) => aggregatedResource(type, version, VERBS)),
        ...reviews.map((type) => aggregatedResource(type, version, ['create'])),
      ],
    })),
  }
}

function aggregatedResource(
  type: ResourceType,
  version: string,
  verbs: readonly string[],
): JsonObject {
  return {
    resource: type.plural,
    responseKind: { group: type.group, version, kind: type.kind },
    scope: type.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: type.singular,
    verbs,
    ...(type.shortNames.length === 0 ? {} : { shortNames: type.shortNames }),
    ...(type.categories.length === 0 ? {} : { categories: type.categories }),
    subresources: type.subresources.map((name) => ({
      subresource: name,
      responseKind: SUBRESOURCE_KINDS[name] ?? { group: type.group, version, kind: type.kind },
      verbs: SUBRESOURCE_VERBS[name] ?? ['get'],
    })),
  }
}

/** All groups (or the core group) in one document, if the Accept header asks for that form. */
export function aggregated(
  resources: ResourceTable,
  accept: string | undefined,
  isCore: boolean,
): { readonly contentType: string; readonly body: JsonObject } | undefined {
  const version = /as=APIGroupDiscoveryList/.test(accept ?? '')
    ? /v=(v2beta1|v2)\b/.exec(accept ?? '')?.[1]
    : undefined
  if (version === undefined) return undefined
  const groups = isCore ? [''] : groupNames(resources)
  return {
    contentType: `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`,
    body: {
      kind: 'APIGroupDiscoveryList',
      apiVersion: `apidiscovery.k8s.io/${version}`,
      metadata: {},
      items: groups.map((group) => aggregatedGroup(resources, group)),
    },
  }
}
