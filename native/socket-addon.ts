// SPDX-License-Identifier: Apache-2.0
// build/ambit-sockets.node (native/sockets): sockets in Node's event loop, without an object of Node's for each.

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const ADDON = fileURLToPath(new URL('./build/ambit-sockets.node', import.meta.url))

/** The thread's own, whose functions mesh/relay/addon-engine.ts has the types of; undefined where it was not built, for want of Node's headers. */
export function loadSocketAddon(): unknown {
  return existsSync(ADDON) ? createRequire(import.meta.url)(ADDON) : undefined
}
