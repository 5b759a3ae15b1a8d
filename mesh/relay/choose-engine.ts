// SPDX-License-Identifier: Apache-2.0
// The thread's engine of sockets, where native was built and fits this machine.

import { errorMessage } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'
import { AddonEngine, type SocketAddon } from './addon-engine.ts'
import type { SocketEngine } from './socket-engine.ts'

let engine: SocketEngine | undefined

/** The thread's, over the addon that `load` gives; undefined where it gives none. Throws what loading throws. */
export function threadEngine(load: () => unknown): SocketEngine | undefined {
  if (engine !== undefined) return engine
  const addon = load()
  // What an addon exports is untyped by nature.
  engine = addon === undefined ? undefined : new AddonEngine(addon as SocketAddon)
  return engine
}

/** The same for a program, which says what serves it: without an engine Node's sockets do, at four times the memory. */
export function chooseEngine(load: () => unknown, log: Logger): SocketEngine | undefined {
  try {
    const chosen = threadEngine(load)
    if (chosen === undefined) log.warn('sockets are served by Node: native was not built')
    else log.debug('sockets are served by the native engine')
    return chosen
  } catch (thrown) {
    log.warn({ error: errorMessage(thrown) }, 'sockets are served by Node')
    return undefined
  }
}
