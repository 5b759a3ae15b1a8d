// SPDX-License-Identifier: Apache-2.0
// How the controller's file descriptors are shared out. Pure.

/** Connections at a time; together with the reserve no more than the process may have open. */
export interface ConnectionBudget {
  /** To the HTTP port. */
  readonly health: number
  /** To the gRPC port, of callers that have not proven who they are. */
  readonly newcomers: number
  /** To the gRPC port, of callers whose token was good. */
  readonly callers: number
}

/** Kept back of every ten descriptors for the API server, the log, files that are read; at least LEAST_RESERVE. */
const RESERVE_SHARE = 0.1
const LEAST_RESERVE = 64
/** Kubelet and scrapers need a handful. */
const MOST_HEALTH = 256
/** Each costs some 25 KB before, and 50 KB and a signature in its handshake: twice the agents of a large cluster that all come back at once. */
const MOST_NEWCOMERS = 1024

/** Shares out the descriptors that the process may have. */
export function connectionBudget(descriptors: number): ConnectionBudget {
  const reserve = Math.max(LEAST_RESERVE, Math.ceil(descriptors * RESERVE_SHARE))
  const total = Math.max(64, descriptors - reserve)
  const health = Math.min(MOST_HEALTH, Math.floor(total / 8))
  const newcomers = Math.min(MOST_NEWCOMERS, Math.floor(total / 4))
  return { health, newcomers, callers: total - health - newcomers }
}
