// SPDX-License-Identifier: Apache-2.0
// GET and POST /logging of an admin API: how loud each part of the process is, and to make it louder.

import type { FastifyInstance } from 'fastify'
import { type LevelSpec, type LogLevels, parseLevels } from '../telemetry/log-levels.ts'

/** A process's levels, and who else is to hear of a change. */
export interface LoggingRoutes {
  readonly levels: LogLevels
  /** Parts whose loggers are elsewhere: in other threads. */
  readonly otherParts?: readonly string[]
  readonly onChange?: (spec: LevelSpec) => void
}

/** GET /logging; POST /logging?level=LEVEL, ?level=PART:LEVEL,..., ?reset (to what the process was started with; then what level says). */
export function addLoggingRoutes(
  app: FastifyInstance,
  { levels, otherParts = [], onChange }: LoggingRoutes,
): void {
  const parts = (): readonly string[] => [...new Set([...levels.parts, ...otherParts])].sort()
  const told = (): unknown => ({
    level: levels.spec.level,
    parts: Object.fromEntries(
      parts().map((part) => [part, levels.spec.parts[part] ?? levels.spec.level]),
    ),
  })
  app.get('/logging', told)
  app.post<{ Querystring: { level?: string; reset?: string } }>('/logging', (request, reply) => {
    const { level, reset } = request.query
    if (level === undefined && reset === undefined)
      return reply.code(400).send({ error: 'give level or reset' })
    const before = reset === undefined ? levels.spec : levels.initial
    const names = parts()
    const parsed =
      level === undefined || level === ''
        ? { ok: true as const, value: before }
        : parseLevels(level, before, (name) => names.includes(name))
    if (!parsed.ok) return reply.code(400).send({ error: parsed.error, parts: names })
    levels.set(parsed.value)
    onChange?.(parsed.value)
    return reply.send(told())
  })
}
