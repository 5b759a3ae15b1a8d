// SPDX-License-Identifier: Apache-2.0
// Which resources are served: a table of built-in types, and those that CustomResourceDefinitions add.

import type { Draft } from './json.ts'
import type { ResourceId } from './types.ts'

export type PrinterColumn = {
  readonly name: string
  readonly type: string
  readonly jsonPath: string
  readonly priority: number
}

export type ResourceVersionSpec = {
  readonly version: string
  /** OpenAPI schema of a custom resource version; absent for built-in types. */
  readonly schema?: Draft | undefined
  readonly columns?: readonly PrinterColumn[] | undefined
}

export interface ResourceType {
  readonly id: ResourceId
  readonly group: string
  readonly plural: string
  readonly singular: string
  readonly kind: string
  readonly listKind: string
  readonly namespaced: boolean
  readonly shortNames: readonly string[]
  readonly categories: readonly string[]
  /** Served versions, preferred first. */
  readonly versions: readonly ResourceVersionSpec[]
  readonly storageVersion: string
  readonly subresources: readonly string[]
  /** Whether metadata.generation counts changes of the spec. */
  readonly hasGeneration: boolean
  readonly isCustom: boolean
}

/** apiVersion as objects carry it: `v1`, `apps/v1`. */
export function apiVersionOf(type: ResourceType, version = type.storageVersion): string {
  return type.group === '' ? version : `${type.group}/${version}`
}

/** `pods`, or `deployments.apps`. */
export function resourceId(group: string, plural: string): ResourceId {
  return group === '' ? plural : `${plural}.${group}`
}

type Traits = {
  readonly short?: readonly string[]
  readonly cluster?: boolean
  readonly sub?: readonly string[]
  readonly all?: boolean
  readonly generation?: boolean
  readonly plural?: string
}

function builtIn(group: string, version: string, kind: string, traits: Traits = {}): ResourceType {
  const singular = kind.toLowerCase()
  const plural = traits.plural ?? `${singular}s`
  return {
    id: resourceId(group, plural),
    group,
    plural,
    singular,
    kind,
    listKind: `${kind}List`,
    namespaced: traits.cluster !== true,
    shortNames: traits.short ?? [],
    categories: traits.all === true ? ['all'] : [],
    versions: [{ version }],
    storageVersion: version,
    subresources: traits.sub ?? [],
    hasGeneration: traits.generation === true,
    isCustom: false,
  }
}

const RBAC = 'rbac.authorization.k8s.io'
const WORKLOAD: Traits = { sub: ['status', 'scale'], all: true, generation: true }

/** The types that exist without any CustomResourceDefinition. */
export const BUILT_IN_TYPES: readonly ResourceType[] = [
  builtIn('', 'v1', 'Namespace', { cluster: true, short: ['ns'], sub: ['status', 'finalize'] }),
  builtIn('', 'v1', 'Pod', {
    short: ['po'],
    all: true,
    sub: ['status', 'binding', 'eviction', 'ephemeralcontainers', 'exec', 'log', 'portforward'],
  }),
  builtIn('', 'v1', 'Service', { short: ['svc'], all: true, sub: ['status'] }),
  builtIn('', 'v1', 'Endpoints', { plural: 'endpoints', short: ['ep'] }),
  builtIn('', 'v1', 'ConfigMap', { short: ['cm'] }),
  builtIn('', 'v1', 'Secret'),
  builtIn('', 'v1', 'ServiceAccount', { short: ['sa'], sub: ['token'] }),
  builtIn('', 'v1', 'Node', { cluster: true, short: ['no'], sub: ['status'] }),
  builtIn('', 'v1', 'Event', { short: ['ev'] }),
  builtIn('apps', 'v1', 'Deployment', { ...WORKLOAD, short: ['deploy'] }),
  builtIn('apps', 'v1', 'ReplicaSet', { ...WORKLOAD, short: ['rs'] }),
  builtIn('apps', 'v1', 'StatefulSet', { ...WORKLOAD, short: ['sts'] }),
  builtIn('apps', 'v1', 'DaemonSet', { ...WORKLOAD, sub: ['status'], short: ['ds'] }),
  builtIn('apps', 'v1', 'ControllerRevision'),
  builtIn('batch', 'v1', 'Job', { sub: ['status'], all: true, generation: true }),
  builtIn('discovery.k8s.io', 'v1', 'EndpointSlice', { generation: true }),
  builtIn('coordination.k8s.io', 'v1', 'Lease'),
  builtIn(RBAC, 'v1', 'Role'),
  builtIn(RBAC, 'v1', 'RoleBinding'),
  builtIn(RBAC, 'v1', 'ClusterRole', { cluster: true }),
  builtIn(RBAC, 'v1', 'ClusterRoleBinding', { cluster: true }),
  builtIn('networking.k8s.io', 'v1', 'NetworkPolicy', {
    plural: 'networkpolicies',
    short: ['netpol'],
    generation: true,
  }),
  builtIn('policy', 'v1', 'PodDisruptionBudget', {
    short: ['pdb'],
    sub: ['status'],
    generation: true,
  }),
  builtIn('autoscaling', 'v2', 'HorizontalPodAutoscaler', {
    short: ['hpa'],
    sub: ['status'],
    generation: true,
  }),
  builtIn('apiextensions.k8s.io', 'v1', 'CustomResourceDefinition', {
    cluster: true,
    short: ['crd', 'crds'],
    sub: ['status'],
    generation: true,
  }),
]

/** Reviews: posted and answered at once, never stored. Kept apart, for discovery and routing. */
export const REVIEW_TYPES: readonly ResourceType[] = [
  builtIn('authentication.k8s.io', 'v1', 'TokenReview', { cluster: true }),
  builtIn('authentication.k8s.io', 'v1', 'SelfSubjectReview', { cluster: true }),
  builtIn('authorization.k8s.io', 'v1', 'SubjectAccessReview', { cluster: true }),
  builtIn('authorization.k8s.io', 'v1', 'SelfSubjectAccessReview', { cluster: true }),
  builtIn('authorization.k8s.io', 'v1', 'SelfSubjectRulesReview', { cluster: true }),
  builtIn('authorization.k8s.io', 'v1', 'LocalSubjectAccessReview'),
]

/** The served resources; custom ones come and go. */
export class ResourceTable {
  readonly #byId = new Map<ResourceId, ResourceType>()

  constructor() {
    for (const type of BUILT_IN_TYPES) this.#byId.set(type.id, type)
  }

  byId(id: ResourceId): ResourceType | undefined {
    return this.#byId.get(id)
  }

  /** The type behind /apis/GROUP/VERSION/PLURAL, if that version is served. */
  byPath(group: string, version: string, plural: string): ResourceType | undefined {
    const type = this.#byId.get(resourceId(group, plural))
    return type?.versions.some((one) => one.version === version) === true ? type : undefined
  }

  byKind(group: string, kind: string): ResourceType | undefined {
    return this.all().find((type) => type.group === group && type.kind === kind)
  }

  all(): readonly ResourceType[] {
    return [...this.#byId.values()]
  }

  add(type: ResourceType): void {
    this.#byId.set(type.id, type)
  }

  remove(id: ResourceId): void {
    this.#byId.delete(id)
  }
}
