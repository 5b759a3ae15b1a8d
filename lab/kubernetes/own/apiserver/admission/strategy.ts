// SPDX-License-Identifier: Apache-2.0
// What a resource may add to the general life of an object: defaults, checks, and effects of its removal.

import type { Result } from '../../../../../mesh/result.ts'
import type { ClusterIpPools } from '../cluster-ip.ts'
import type { FieldError } from '../../../objects/refusals.ts'
import type { Draft } from '../../../objects/json.ts'
import type { ResourceTable } from '../resource-table.ts'
import type { Store } from '../store.ts'
import type { Refusal } from '../../../objects/refusals.ts'
import type { StoredObject } from '../../../objects/stored-object.ts'

export interface AdmissionContext {
  readonly store: Store
  readonly resources: ResourceTable
  readonly clusterIps: ClusterIpPools
}

export interface Strategy {
  /** Fills defaults, in place; on create and on update. */
  readonly setDefaults?: (draft: Draft) => void
  /** Refuses what no field is to blame for, and sets what the server decides, on create. */
  readonly admitCreate?: (draft: Draft, context: AdmissionContext) => Result<void, Refusal>
  /** Carries over what a writer may not change, in place. */
  readonly prepareUpdate?: (draft: Draft, stored: StoredObject) => void
  readonly validate?: (draft: Draft, stored: StoredObject | undefined) => readonly FieldError[]
  /** Takes what the object claims (addresses); runs last before it is stored. */
  readonly claim?: (
    draft: Draft,
    stored: StoredObject | undefined,
    context: AdmissionContext,
  ) => readonly FieldError[]
  readonly afterStore?: (object: StoredObject, context: AdmissionContext) => void
  readonly afterRemove?: (object: StoredObject, context: AdmissionContext) => void
}
