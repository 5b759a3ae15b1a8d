// SPDX-License-Identifier: Apache-2.0
// The kinds of objects that are made of a Gateway, and what tells ours from others'.

import {
  DEPLOYMENTS,
  HORIZONTAL_POD_AUTOSCALERS,
  type KubeResource,
  POD_DISRUPTION_BUDGETS,
  SERVICE_ACCOUNTS,
  SERVICES,
} from '../../mesh/kube/index.ts'
import { type Fields, fieldsOf } from '../istio-api/flaw.ts'

/** On each object that is made of a Gateway: only what has it is ever changed or deleted. */
export const MANAGED_LABEL = 'gateway.ambit.io/managed'
export const MANAGED_BY = 'ambit-waypoint'

/** By the keys that an overlay has for them; in this order they are made. */
export const MANAGED_KINDS = {
  serviceAccount: SERVICE_ACCOUNTS,
  service: SERVICES,
  deployment: DEPLOYMENTS,
  podDisruptionBudget: POD_DISRUPTION_BUDGETS,
  horizontalPodAutoscaler: HORIZONTAL_POD_AUTOSCALERS,
} as const satisfies Record<string, KubeResource>

export type ManagedKind = keyof typeof MANAGED_KINDS

/** What a waypoint may have or not; taken away when nobody asks for it any more. */
export const OPTIONAL_KINDS = ['podDisruptionBudget', 'horizontalPodAutoscaler'] as const

/** An object as it is to be. */
export interface ManagedObject {
  readonly kind: ManagedKind
  readonly object: Fields
}

/** Why a waypoint cannot be made as it is asked for. */
export interface ProvisionFlaw {
  /** Kind and name, as people call it. */
  readonly object: string
  readonly field: string
  readonly reason: string
}

/** Whether it was made of this very Gateway, and is not one that somebody else has under the same name. */
export function isManaged(object: { readonly metadata?: object | null }, uid: string): boolean {
  const { labels, ownerReferences } = (fieldsOf(object.metadata) ?? {}) as {
    readonly labels?: unknown
    readonly ownerReferences?: unknown
  }
  const owners: readonly unknown[] = Array.isArray(ownerReferences) ? ownerReferences : []
  return (
    fieldsOf(labels)?.[MANAGED_LABEL] === MANAGED_BY &&
    owners.some((owner) => fieldsOf(owner)?.['uid'] === uid)
  )
}
