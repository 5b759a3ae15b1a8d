// SPDX-License-Identifier: Apache-2.0
// GET and POST /logging/access of the admin API: which connections or requests have a line in the access log, and
// to change it.

import type { FastifyInstance } from 'fastify'
import { type AccessSpec, changeAccessSpec, type FilterReader } from '../telemetry/access-spec.ts'

export interface AccessRoutes {
  /** As the process was started. */
  readonly initial: AccessSpec
  /** Reads an expression over the fields that lines have here. */
  readonly readFilter: FilterReader
  readonly onChange: (spec: AccessSpec) => void
}

/** GET /logging/access; POST /logging/access?filter=EXPRESSION&sample=SHARE, of which each may be left out, or ?reset, before the others. */
export function addAccessRoutes(
  app: FastifyInstance,
  { initial, readFilter, onChange }: AccessRoutes,
): void {
  let spec = initial
  const told = (): unknown => ({ filter: spec.filter ?? null, sample: spec.sample })
  app.get('/logging/access', told)
  app.post<{ Querystring: { filter?: string; sample?: string; reset?: string } }>(
    '/logging/access',
    (request, reply) => {
      const { filter, sample, reset } = request.query
      if (filter === undefined && sample === undefined && reset === undefined)
        return reply.code(400).send({ error: 'give filter, sample or reset' })
      const changed = changeAccessSpec(
        reset === undefined ? spec : initial,
        { filter, sample },
        readFilter,
      )
      if (!changed.ok) return reply.code(400).send({ error: changed.error })
      spec = changed.value
      onChange(spec)
      return reply.send(told())
    },
  )
}
