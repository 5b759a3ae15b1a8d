// SPDX-License-Identifier: Apache-2.0
// Starts an HTTP server of the agent, or says which flag to change.

import type { FastifyInstance } from 'fastify'
import { AmbitError, errorMessage } from '../errors.ts'

export interface ListenOptions {
  /**
   * Lets another process listen there, too, for the time of a hand-over (SO_REUSEPORT; both must set it, and run as one
   * user). Default false: a second server by mistake is to be noticed.
   */
  readonly reusePort?: boolean
}

/** Listens; throws AMB_LISTEN when the address cannot be had. */
export async function listen(
  app: FastifyInstance,
  { host, port }: { readonly host: string; readonly port: number },
  flag: string,
  { reusePort = false }: ListenOptions = {},
): Promise<void> {
  try {
    // Fastify gives its options to net.Server.listen() as they are.
    const place = { host, port, ...(reusePort && { reusePort }) }
    await app.listen(place)
  } catch (thrown) {
    throw new AmbitError('AMB_LISTEN', `Cannot listen for ${flag}: ${errorMessage(thrown)}`, {
      cause: thrown,
    })
  }
}
