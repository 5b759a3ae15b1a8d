// SPDX-License-Identifier: Apache-2.0
// What one of the lab's own programs does when it is ready: it tells whoever started it, who then leaves it alone.

import { flushCompileCache } from 'node:module'

/** Tells the parent of this process (child-process.ts) that it is ready. */
export function tellReady(): void {
  process.send?.({ kind: 'ready' })
  process.disconnect?.()
  // Where compiled code is kept (cli/bin/ambit), Node keeps it at a process's end, which the lab's parts never see: they are killed.
  flushCompileCache()
}
