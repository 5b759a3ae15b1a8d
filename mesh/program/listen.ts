// SPDX-License-Identifier: Apache-2.0
// Starts an HTTP server of the agent, or says which flag to change.

import type { FastifyInstance } from 'fastify'
import { AmbitError, errorMessage } from '../errors.ts'

/** Listens; throws AMB_LISTEN when the address cannot be had. */
export async function listen(
  app: FastifyInstance,
  { host, port }: { readonly host: string; readonly port: number },
  flag: string,
): Promise<void> {
  try {
    await app.listen({ host, port })
  } catch (thrown) {
    throw new AmbitError('AMB_LISTEN', `Cannot listen for ${flag}: ${errorMessage(thrown)}`, {
      cause: thrown,
    })
  }
}
