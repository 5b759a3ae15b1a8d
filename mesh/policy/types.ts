// SPDX-License-Identifier: Apache-2.0
// What policies are asked about, and what they answer. Plain data: a proxy, the command line (`why`) and the dashboard read the same.

import type { IpAddress } from '../model/address.ts'
import type { Policy, PolicyRule } from '../model/policy.ts'
import type { SocketAddress, SpiffeId } from '../model/types.ts'

/** A call as policies see it. */
export interface PolicyCall {
  /** Proven by a certificate or by the kernel; undefined for plaintext. */
  readonly identity: SpiffeId | undefined
  /** Who calls: behind a waypoint whom that calls for, where its own waypoint says so. */
  readonly source: IpAddress
  /** Where in the pod it leads. */
  readonly destination: SocketAddress
}

/** A rule that matches a call, and the policy it is of. */
export interface PolicyHit {
  readonly policy: Policy
  readonly rule: PolicyRule
}

/**
 * What becomes of a call. `denied`: by this rule of a DENY policy. `unknown`: whether this DENY rule matches cannot be told, which
 * denies. `notAllowed`: there are ALLOW policies, and none allows it. `allowed`: by this rule, or, without `by`, because no ALLOW
 * policy concerns the pod.
 */
export type PolicyVerdict =
  | { readonly kind: 'denied' | 'unknown'; readonly by: PolicyHit }
  | { readonly kind: 'notAllowed'; readonly policies: readonly Policy[] }
  | { readonly kind: 'allowed'; readonly by: PolicyHit | undefined }
