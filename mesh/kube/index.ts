// SPDX-License-Identifier: Apache-2.0
// The Kubernetes API as agent, controller and lab use it. In short:
//
//   const access = await loadKubeConfig({ kubeconfig })            Result<ClusterAccess, AmbitError>
//   const api = createKubeApi(access.value)
//   await api.get(PODS, { namespace, name })                       Result<Pod, KubeFailure>; also list, create,
//                                                                  update, patch, delete, raw
//   const pods = watchResource(api, PODS, { fieldSelector: 'spec.nodeName=node-a', logger, added, updated, deleted })
//   await pods.synced; pods.get('shop/web'); await pods.close()
//
// defineResource() describes any other resource, CRDs included.

export { loadKubeConfig } from './access.ts'
export type { ClusterAccess } from './access.ts'
export { createKubeApi } from './api.ts'
export type { KubeApi, KubeList, ObjectName } from './api.ts'
export { chainProblem } from './chain-condition.ts'
export { isMissing } from './failure.ts'
export type { KubeFailure } from './failure.ts'
export { type LabelMatcher, parseLabelSelector, splitRequirements } from './label-selector.ts'
export * from './resources.ts'
export { watchResource } from './watch-resource.ts'
export type { ResourceWatch, WatchOptions } from './watch-resource.ts'
