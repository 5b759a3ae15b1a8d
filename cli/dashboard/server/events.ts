// SPDX-License-Identifier: Apache-2.0
// Tells open pages that something new is known (server-sent events). An event says no more than that: each page asks for what it shows, so a
// slow one holds no backlog.

import type { FastifyInstance } from 'fastify'

/** Many agents that answer at about the same time are one event. */
const COALESCE_MS = 250
/** A browser opens a few; more is a fault. */
const MOST_PAGES = 32

/** Adds GET /api/events. */
export function addEvents(
  app: FastifyInstance,
  subscribe: (listener: () => void) => () => void,
): void {
  let pages = 0
  app.get('/api/events', (request, reply) => {
    if (pages >= MOST_PAGES) {
      void reply.code(503).send({ error: 'too many pages are open' })
      return
    }
    pages += 1
    reply.hijack()
    const { raw } = reply
    // What the hook has set stands on the reply, which writes no head any more.
    for (const [name, value] of Object.entries(reply.getHeaders()))
      if (value !== undefined) raw.setHeader(name, value)
    raw.setHeader('content-type', 'text/event-stream; charset=utf-8')
    raw.write('retry: 2000\ndata: news\n\n')
    let timer: NodeJS.Timeout | undefined
    const unsubscribe = subscribe(() => {
      timer ??= setTimeout(() => {
        timer = undefined
        // Nothing is queued for a page that does not read: it asks for all when it does.
        if (!raw.writableNeedDrain) raw.write('data: news\n\n')
      }, COALESCE_MS)
    })
    request.raw.once('close', () => {
      pages -= 1
      clearTimeout(timer)
      unsubscribe()
    })
  })
}
