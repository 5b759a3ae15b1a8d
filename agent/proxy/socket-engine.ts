// SPDX-License-Identifier: Apache-2.0
// The engine of a data-plane thread's sockets.

import { threadEngine } from '../../mesh/relay/choose-engine.ts'
import type { SocketEngine } from '../../mesh/relay/socket-engine.ts'
import { loadSocketAddon } from '../../native/socket-addon.ts'

/** The thread's; undefined where it was not built: Node's sockets serve then. */
export function socketEngine(): SocketEngine | undefined {
  return threadEngine(loadSocketAddon)
}
