// SPDX-License-Identifier: Apache-2.0
// What is left to do at a connection's end, which may be days away: until then no more is kept than what is named here.

import { errorMessage } from '../../mesh/errors.ts'
import type { RelayResult } from '../../mesh/relay/relay-result.ts'
import type { Connection } from './connection.ts'

/** Finishes the record when the connection is over; passes the result on. */
export function finishing(
  connection: Connection,
  result: Promise<RelayResult>,
): Promise<RelayResult> {
  return result.then(
    (it) => {
      connection.finish(it.end, it)
      return it
    },
    (thrown: unknown) => {
      // Only a bug throws; the connection must still end and be told of.
      connection.fail('internal', errorMessage(thrown))
      throw thrown
    },
  )
}
