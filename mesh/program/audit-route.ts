// SPDX-License-Identifier: Apache-2.0
// GET /audit of an administrators' port: the lines of the audit as they are, one JSON object a line.

import type { FastifyInstance } from 'fastify'
import type { AuditJournal } from '../audit/journal.ts'
import { AuditReader } from '../audit/reader.ts'

interface AuditParameters {
  readonly namespace?: string
  readonly since?: string
  readonly follow?: string
}

/**
 * Serves the audit: `?namespace=NAME` of one namespace alone, `?since=TIME` (RFC 3339) from then on, `?follow=true` until the caller
 * goes away. What a caller does not read is not kept for it: it is told how many lines it missed.
 */
export function serveAudit(app: FastifyInstance, journal: AuditJournal): void {
  app.get<{ Querystring: AuditParameters }>('/audit', (request, reply) => {
    const { namespace, since, follow } = request.query
    const time = since === undefined ? undefined : Date.parse(since)
    if (Number.isNaN(time)) {
      void reply
        .code(400)
        .send({ error: `since: "${since?.slice(0, 64)}" is not a time (RFC 3339)` })
      return
    }
    if (follow !== undefined && follow !== 'true' && follow !== 'false') {
      void reply.code(400).send({ error: 'follow: must be true or false' })
      return
    }
    const query = { namespace, since: time, follow: follow === 'true' }
    void reply.type('application/x-ndjson').send(new AuditReader(journal, query))
  })
}
