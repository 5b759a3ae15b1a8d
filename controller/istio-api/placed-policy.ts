// SPDX-License-Identifier: Apache-2.0
// A policy, and the workloads it concerns: those of an area that have its labels, or all.

import type { Policy, PolicyScope } from '../../mesh/model/policy.ts'
import type { PolicyTarget } from './selector.ts'

/** A namespace, or the whole mesh. */
export type Area = string & { readonly __brand: 'Area' }

/** No namespace is called so. */
export const WHOLE_MESH = '*' as Area

export interface PlacedPolicy {
  readonly policy: Policy
  readonly area: Area
  /** Of the workloads of its area, in the order of keys; undefined when it concerns all of them. */
  readonly selector: ReadonlyMap<string, string> | undefined
}

/** The area of a policy by the namespace it lies in, and its scope. An unreadable target is all that it could be. */
export function areaOf(
  rootNamespace: string,
  namespace: string,
  target: PolicyTarget,
): Pick<PlacedPolicy, 'area' | 'selector'> & { readonly scope: PolicyScope } {
  const isRoot = namespace === rootNamespace
  const area = isRoot ? WHOLE_MESH : (namespace as Area)
  return target.kind === 'labels'
    ? { area, scope: 'workload', selector: target.labels }
    : { area, scope: isRoot ? 'mesh' : 'namespace', selector: undefined }
}
