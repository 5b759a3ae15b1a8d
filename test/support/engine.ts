// SPDX-License-Identifier: Apache-2.0
// The engine of the thread's sockets, for tests and benches that stand in for a data plane.

import { threadEngine } from '../../mesh/relay/choose-engine.ts'
import type { SocketEngine } from '../../mesh/relay/socket-engine.ts'
import { loadSocketAddon } from '../../native/socket-addon.ts'

/** Undefined where native was not built. */
export function socketEngine(): SocketEngine | undefined {
  return threadEngine(loadSocketAddon)
}
