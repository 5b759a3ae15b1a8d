// SPDX-License-Identifier: Apache-2.0
// GET /debug/pprof/profile and /debug/pprof/heap of an admin API, at the paths of ztunnel's; the answers are in V8's formats, for
// that is what there are tools for.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type ProfileKind, type ProfileRequest, profileThread } from './profile.ts'

const MAIN_THREAD = 'main'

/** Profiles one thread by its name; undefined when there is none of that name. */
export type ProfileOther = (thread: string, request: ProfileRequest) => Promise<string> | undefined

type Query = { seconds?: string; frequency?: string; thread?: string }

/** What ztunnel allows; longer ones are not for a server to hold. */
const SECONDS = { least: 1, most: 300, usual: 10 }
const FREQUENCY = { least: 1, most: 1_000, usual: 100 }

/** Adds both; `other` knows the threads beside the main one. One profile at a time: they slow down what they watch. */
export function addProfileRoutes(app: FastifyInstance, other?: ProfileOther): void {
  let isBusy = false
  const serve = async (
    kind: ProfileKind,
    request: FastifyRequest<{ Querystring: Query }>,
    reply: FastifyReply,
  ): Promise<unknown> => {
    const { seconds, frequency, thread = MAIN_THREAD } = request.query
    const asked = {
      kind,
      seconds: within(seconds, SECONDS),
      frequency: within(frequency, FREQUENCY),
    }
    if (asked.seconds === undefined) return refuse(reply, 400, bounds('seconds', SECONDS))
    if (asked.frequency === undefined) return refuse(reply, 400, bounds('frequency', FREQUENCY))
    if (isBusy) return refuse(reply, 409, 'another profile is being made')
    const gone = new AbortController()
    reply.raw.once('close', () => gone.abort())
    isBusy = true
    try {
      const whole = { kind, seconds: asked.seconds, frequency: asked.frequency }
      const made =
        thread === MAIN_THREAD ? profileThread(whole, gone.signal) : other?.(thread, whole)
      if (made === undefined)
        return refuse(reply, 400, `there is no thread "${thread.slice(0, 32)}"`)
      void reply
        .type('application/json')
        .header('content-disposition', `attachment; filename="${thread}.${kind}profile"`)
      return await made
    } finally {
      isBusy = false
    }
  }
  app.get<{ Querystring: Query }>('/debug/pprof/profile', (request, reply) =>
    serve('cpu', request, reply),
  )
  app.get<{ Querystring: Query }>('/debug/pprof/heap', (request, reply) =>
    serve('heap', request, reply),
  )
}

interface Bounds {
  readonly least: number
  readonly most: number
  readonly usual: number
}

function within(text: string | undefined, { least, most, usual }: Bounds): number | undefined {
  if (text === undefined) return usual
  const number = Number(text)
  return Number.isInteger(number) && number >= least && number <= most ? number : undefined
}

function bounds(name: string, { least, most }: Bounds): string {
  return `${name} must be a whole number from ${least} to ${most}`
}

function refuse(reply: FastifyReply, status: number, error: string): FastifyReply {
  return reply.code(status).send({ error })
}
