// SPDX-License-Identifier: Apache-2.0
// Which strategy goes with which resource; resources without one follow the general rules only.

import type { ResourceId } from '../../../objects/cluster-api.ts'
import {
  configMapStrategy,
  endpointSliceStrategy,
  leaseStrategy,
  namespaceStrategy,
  nodeStrategy,
  secretStrategy,
} from './core.ts'
import { customResourceDefinitionStrategy } from './custom-resource-definitions.ts'
import { podStrategy } from './pods.ts'
import { serviceStrategy } from './services.ts'
import type { Strategy } from './strategy.ts'
import { daemonSetStrategy, deploymentStrategy, replicaSetStrategy } from './workloads.ts'

const STRATEGIES: { readonly [resource: ResourceId]: Strategy } = {
  namespaces: namespaceStrategy,
  pods: podStrategy,
  services: serviceStrategy,
  nodes: nodeStrategy,
  secrets: secretStrategy,
  configmaps: configMapStrategy,
  'deployments.apps': deploymentStrategy,
  'replicasets.apps': replicaSetStrategy,
  'daemonsets.apps': daemonSetStrategy,
  'endpointslices.discovery.k8s.io': endpointSliceStrategy,
  'leases.coordination.k8s.io': leaseStrategy,
  'customresourcedefinitions.apiextensions.k8s.io': customResourceDefinitionStrategy,
}

const GENERAL: Strategy = {}

/** The strategy of a resource. */
export function strategyOf(resource: ResourceId): Strategy {
  return STRATEGIES[resource] ?? GENERAL
}
