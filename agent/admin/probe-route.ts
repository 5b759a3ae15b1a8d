// SPDX-License-Identifier: Apache-2.0
// POST /probe of the agent's admin API: really makes a call of a pod's, for `ambit why --live`.

import type { FastifyInstance } from 'fastify'
import { Bucket, type MonotonicClock } from '../../mesh/async/bucket.ts'
import { errorMessage } from '../../mesh/errors.ts'
import { parseSocketAddress } from '../../mesh/model/address.ts'
import type { CallProbe, ProbedCall } from '../proxy/call-probe.ts'

/** Makes a call of the pod NAMESPACE/NAME; undefined when it is not served here. */
export type Probe = (pod: string, probe: CallProbe) => Promise<ProbedCall> | undefined

/**
 * Of the whole agent. Whoever is on the node's network can ask, and a call bears the pod's identity: enough for a person who looks
 * for a fault, and nothing to scan ports with.
 */
const PROBES = { burst: 6, perSecond: 1 }
const TIMEOUT_MS = { least: 100, usual: 5_000, most: 30_000 }

interface Query {
  readonly pod?: string
  readonly to?: string
  readonly timeoutMs?: string
}

/** POST /probe?pod=NAMESPACE/NAME&to=IP:PORT&timeoutMs=N. One at a time for each pod. */
export function addProbeRoute(app: FastifyInstance, probe: Probe, now?: MonotonicClock): void {
  const budget = new Bucket(PROBES, now)
  const busy = new Set<string>()
  app.post<{ Querystring: Query }>('/probe', async (request, reply) => {
    const { pod = '', to = '', timeoutMs = `${TIMEOUT_MS.usual}` } = request.query
    const address = parseSocketAddress(to)
    const waitMs = Number(timeoutMs)
    const refuse = (status: number, error: string) => reply.code(status).send({ error })
    if (address === undefined) return refuse(400, 'to must be IP:PORT, IPv6 in brackets')
    if (!Number.isInteger(waitMs) || waitMs < TIMEOUT_MS.least || waitMs > TIMEOUT_MS.most)
      return refuse(400, `timeoutMs must be from ${TIMEOUT_MS.least} to ${TIMEOUT_MS.most}`)
    if (busy.has(pod)) return refuse(409, 'another call of the pod is being tried')
    if (!budget.take()) return refuse(429, 'too many calls were tried just now: try again later')
    const call = probe(pod, { ...address, timeoutMs: waitMs })
    if (call === undefined) return refuse(404, `no pod ${pod.slice(0, 512)} is served here`)
    busy.add(pod)
    try {
      return await call
    } catch (thrown) {
      return await refuse(500, `the call cannot be tried: ${errorMessage(thrown)}`)
    } finally {
      busy.delete(pod)
    }
  })
}
