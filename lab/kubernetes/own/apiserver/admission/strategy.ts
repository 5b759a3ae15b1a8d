// SPDX-License-Identifier: Apache-2.0
// What a resource may add to the general life of an object: defaults, checks, and effects of its removal.

import type { Result } from '../../../../../mesh/result.ts'
import type { ClusterIpPools } from '../cluster-ip.ts'
import type { FieldError } from '../failures.ts'
import type { Draft } from '../json.ts'
import type { ResourceTable } from '../resources.ts'
import type { Store } from '../store.ts'
import type { ApiFailure, KubeObject } from '../types.ts'

export type AdmissionContext = {
  readonly store: Store
  readonly resources: ResourceTable
  readonly clusterIps: ClusterIpPools
}

export interface Strategy {
  /** Fills defaults, in place; on create and on update. */
  readonly setDefaults?: (draft: Draft) => void
  /** Refuses what no field is to blame for, and sets what the server decides, on create. */
  readonly admitCreate?: (draft: Draft, context: AdmissionContext) => Result<void, ApiFailure>
  /** Carries over what a writer may not change, in place. */
  readonly prepareUpdate?: (draft: Draft, stored: KubeObject) => void
  readonly validate?: (draft: Draft, stored: KubeObject | undefined) => readonly FieldError[]
  /** Takes what the object claims (addresses); runs last before it is stored. */
  readonly claim?: (
    draft: Draft,
    stored: KubeObject | undefined,
    context: AdmissionContext,
  ) => readonly FieldError[]
  readonly afterStore?: (object: KubeObject, context: AdmissionContext) => void
  readonly afterRemove?: (object: KubeObject, context: AdmissionContext) => void
}
