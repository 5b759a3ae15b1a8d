// SPDX-License-Identifier: Apache-2.0
// How the benches' pools connect: to a port of loopback.

import { once } from 'node:events'
import { type Socket, connect } from 'node:net'
import type { HboneFailure } from '../mesh/hbone/types.ts'
import { err, ok, type Result } from '../mesh/result.ts'
import { dialFailure } from '../test/hbone/harness.ts'

/** As the `dial` of a pool. */
export async function dialLoopback(port: number): Promise<Result<Socket, HboneFailure>> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
  try {
    await once(socket, 'connect')
    return ok(socket)
  } catch (error) {
    return err(dialFailure(error))
  }
}
