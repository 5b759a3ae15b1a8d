// SPDX-License-Identifier: Apache-2.0
// Who is calling, and why a call is refused: the words that authentication, authorisation and the gRPC
// services share.

/** A service account that the API server vouched for, with the pod its token is bound to. */
export interface Caller {
  readonly namespace: string
  readonly serviceAccount: string
  /** Present for tokens that the kubelet projected into a pod. */
  readonly pod?: { readonly name: string; readonly uid: string }
}

/** Why there will be no certificate or no stream; the kind maps to one gRPC status. */
export interface Refusal {
  readonly kind: 'unauthenticated' | 'denied' | 'invalid' | 'throttled' | 'unavailable'
  readonly reason: string
}

/** `namespace/service-account`, for logs and comparisons. */
export function callerName(caller: Pick<Caller, 'namespace' | 'serviceAccount'>): string {
  return `${caller.namespace}/${caller.serviceAccount}`
}
