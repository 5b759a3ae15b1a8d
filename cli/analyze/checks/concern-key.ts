// SPDX-License-Identifier: Apache-2.0
// Whom a policy concerns, as a text to find others for the same workloads by.

import type { PlacedPolicy } from '../../../controller/istio-api/placed-policy.ts'

/** Selectors are in the order of their keys. */
export function concernKey({ area, selector }: Pick<PlacedPolicy, 'area' | 'selector'>): string {
  return [area, ...[...(selector ?? [])].map((label) => label.join('='))].join('\n')
}
