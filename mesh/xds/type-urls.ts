// SPDX-License-Identifier: Apache-2.0
// The resource types that travel over delta discovery.

/** Workloads and services (istio.workload.Address). */
export const ADDRESS_TYPE_URL = 'type.googleapis.com/istio.workload.Address'

/** Layer 4 policies (istio.security.Authorization). */
export const AUTHORIZATION_TYPE_URL = 'type.googleapis.com/istio.security.Authorization'

/** The name that subscribes to all resources of a type. */
export const WILDCARD = '*'

/**
 * Largest discovery message, either way: the first response carries the whole mesh, and the first request of a
 * reconnect names all of it.
 */
export const MAX_MESSAGE_BYTES = 200 * 1024 * 1024
