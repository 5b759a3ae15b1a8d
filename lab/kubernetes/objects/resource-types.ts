// SPDX-License-Identifier: Apache-2.0
// Which resources are served: a table of built-in types, and those that CustomResourceDefinitions add.

import type { KubeResource } from '../../../mesh/kube/resources.ts'
import type { Draft } from './json.ts'
import type { ResourceId } from './cluster-api.ts'

export interface PrinterColumn {
  readonly name: string
  readonly type: string
  readonly jsonPath: string
  readonly priority: number
}

export interface ResourceVersionSpec {
  readonly version: string
  /** OpenAPI schema of a custom resource version; absent for built-in types. */
  readonly schema?: Draft | undefined
  readonly columns?: readonly PrinterColumn[] | undefined
}

/** A resource with all that discovery tells of it. Its `version` is the one that objects are stored in. */
export interface ResourceType extends KubeResource {
  readonly id: ResourceId
  readonly singular: string
  readonly listKind: string
  readonly shortNames: readonly string[]
  readonly categories: readonly string[]
  /** Served versions, preferred first. */
  readonly versions: readonly ResourceVersionSpec[]
  readonly subresources: readonly string[]
  /** Whether metadata.generation counts changes of the spec. */
  readonly hasGeneration: boolean
  readonly isCustom: boolean
}

/** apiVersion as objects carry it: `v1`, `apps/v1`. */
export function apiVersionOf(type: ResourceType, version = type.version): string {
  return type.group === '' ? version : `${type.group}/${version}`
}

/** `pods`, or `deployments.apps`. */
export function resourceId(group: string, plural: string): ResourceId {
  return group === '' ? plural : `${plural}.${group}`
}

interface Traits {
  readonly short?: readonly string[]
  readonly cluster?: boolean
  readonly sub?: readonly string[]
  readonly all?: boolean
  readonly generation?: boolean
  readonly plural?: string
}

/** A type that exists without a definition, from the little that is not the same for all. */
export function builtInType(
  group: string,
  version: string,
  kind: string,
  traits: Traits = {},
): ResourceType {
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
    version,
    subresources: traits.sub ?? [],
    hasGeneration: traits.generation === true,
    isCustom: false,
  }
}

const RBAC = 'rbac.authorization.k8s.io'
const WORKLOAD: Traits = { sub: ['status', 'scale'], all: true, generation: true }

/**
 * The types that exist without any CustomResourceDefinition: those on which something in the lab acts, and what manifests and the
 * mesh bring along: roles, network policies, disruption budgets, autoscalers.
 */
export const BUILT_IN_TYPES: readonly ResourceType[] = [
  builtInType('', 'v1', 'Namespace', { cluster: true, short: ['ns'], sub: ['status', 'finalize'] }),
  builtInType('', 'v1', 'Pod', {
    short: ['po'],
    all: true,
    sub: ['status', 'binding', 'exec', 'log'],
  }),
  builtInType('', 'v1', 'Service', { short: ['svc'], all: true, sub: ['status'] }),
  builtInType('', 'v1', 'Endpoints', { plural: 'endpoints', short: ['ep'] }),
  builtInType('', 'v1', 'ConfigMap', { short: ['cm'] }),
  builtInType('', 'v1', 'Secret'),
  builtInType('', 'v1', 'ServiceAccount', { short: ['sa'], sub: ['token'] }),
  builtInType('', 'v1', 'Node', { cluster: true, short: ['no'], sub: ['status'] }),
  builtInType('', 'v1', 'Event', { short: ['ev'] }),
  builtInType('apps', 'v1', 'Deployment', { ...WORKLOAD, short: ['deploy'] }),
  builtInType('apps', 'v1', 'ReplicaSet', { ...WORKLOAD, short: ['rs'] }),
  builtInType('apps', 'v1', 'DaemonSet', { ...WORKLOAD, sub: ['status'], short: ['ds'] }),
  builtInType('discovery.k8s.io', 'v1', 'EndpointSlice', { generation: true }),
  builtInType('coordination.k8s.io', 'v1', 'Lease'),
  builtInType(RBAC, 'v1', 'Role'),
  builtInType(RBAC, 'v1', 'RoleBinding'),
  builtInType(RBAC, 'v1', 'ClusterRole', { cluster: true }),
  builtInType(RBAC, 'v1', 'ClusterRoleBinding', { cluster: true }),
  builtInType('networking.k8s.io', 'v1', 'NetworkPolicy', {
    plural: 'networkpolicies',
    short: ['netpol'],
    generation: true,
  }),
  builtInType('policy', 'v1', 'PodDisruptionBudget', {
    short: ['pdb'],
    sub: ['status'],
    generation: true,
  }),
  builtInType('autoscaling', 'v2', 'HorizontalPodAutoscaler', { short: ['hpa'], sub: ['status'] }),
  builtInType('apiextensions.k8s.io', 'v1', 'CustomResourceDefinition', {
    cluster: true,
    short: ['crd', 'crds'],
    sub: ['status'],
    generation: true,
  }),
]
