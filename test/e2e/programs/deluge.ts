// SPDX-License-Identifier: Apache-2.0
// An app of large bodies. POST: lets its client wait for LAG_MS before it reads, and says how many bytes there were. GET /BYTES: sends so many.

import { createServer } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'

const PORT = 8080
/** Long enough for all that may wait on the way to be there. */
const LAG_MS = 2_000
const BLOCK = Buffer.alloc(1024 * 1024)

const server = createServer((request, response) => {
  const answer = async (): Promise<void> => {
    if (request.method === 'GET') {
      for (let left = Number(request.url?.slice(1)); left > 0; left -= BLOCK.length)
        if (!response.write(BLOCK.subarray(0, Math.min(left, BLOCK.length))))
          await new Promise((resolve) => response.once('drain', resolve))
      response.end()
      return
    }
    await delay(LAG_MS)
    let bytes = 0
    for await (const chunk of request) bytes += (chunk as Buffer).length
    response.end(String(bytes))
  }
  answer().catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined))
})

server.listen(PORT, '::', () => console.log('listening'))
