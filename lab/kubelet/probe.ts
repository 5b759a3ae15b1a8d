// SPDX-License-Identifier: Apache-2.0
// One probe of a container, made by the kubelet's own process from the node's network namespace, and the
// counting that turns probe results into "passing" and "failing".

import type { IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import type { V1Probe } from '@kubernetes/client-node'
import { http } from '../../mesh/node-http.ts'
import type { Wire } from '../../mesh/kube/resources.ts'
import { errorMessage } from '../../mesh/errors.ts'

export type Probe = Wire<V1Probe>

export type ProbeOutcome =
  | { readonly passed: true }
  | { readonly passed: false; readonly reason: string }

export interface ProbeTarget {
  /** Where httpGet and tcpSocket go unless they name a host. */
  readonly podIp: string
  /** Ports by name. */
  readonly ports: ReadonlyMap<string, number>
  /** Runs a command in the container; gives its exit code and output. */
  exec(
    command: readonly string[],
    timeoutMs: number,
  ): Promise<{ readonly code: number | null; readonly output: string }>
}

/** Kubernetes' defaults. */
const PROBE_DEFAULTS = {
  periodSeconds: 10,
  timeoutSeconds: 1,
  failureThreshold: 3,
  successThreshold: 1,
  initialDelaySeconds: 0,
} as const

/** Probes once; never rejects. */
export async function runProbe(probe: Probe, target: ProbeTarget): Promise<ProbeOutcome> {
  const timeoutMs = (probe.timeoutSeconds ?? PROBE_DEFAULTS.timeoutSeconds) * 1000
  try {
    if (probe.exec !== undefined) {
      const { code, output } = await target.exec(probe.exec.command ?? [], timeoutMs)
      if (code === 0) return { passed: true }
      return failed(`exec: exit code ${String(code)}: ${output.trim()}`)
    }
    if (probe.httpGet !== undefined) return await httpGet(probe.httpGet, target, timeoutMs)
    if (probe.tcpSocket !== undefined) {
      const { host = target.podIp, port } = probe.tcpSocket
      await connectOnce(host, portNumber(port, target), timeoutMs)
      return { passed: true }
    }
    return failed('the lab knows httpGet, tcpSocket and exec probes only')
  } catch (error) {
    return failed(errorMessage(error))
  }
}

const failed = (reason: string): ProbeOutcome => ({ passed: false, reason })

async function httpGet(
  action: NonNullable<Probe['httpGet']>,
  target: ProbeTarget,
  timeoutMs: number,
): Promise<ProbeOutcome> {
  const host = action.host ?? target.podIp
  const headers: Record<string, string> = { 'User-Agent': 'kube-probe/1.33', Accept: '*/*' }
  for (const { name, value } of action.httpHeaders ?? []) headers[name] = value
  const options = {
    host,
    port: portNumber(action.port, target),
    path: action.path ?? '/',
    headers,
    agent: false as const,
    signal: AbortSignal.timeout(timeoutMs),
  }
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const onResponse = (response: IncomingMessage): void => {
    response.resume()
    resolve(response.statusCode ?? 0)
  }
  const request =
    action.scheme === 'HTTPS'
      ? // Kubernetes does not verify the certificate of a probed container either.
        httpsRequest({ ...options, rejectUnauthorized: false }, onResponse)
      : http.request(options, onResponse)
  request.on('error', reject)
  request.end()
  const status = await promise
  return status >= 200 && status < 400
    ? { passed: true }
    : failed(`HTTP probe failed with status code ${status}`)
}

async function connectOnce(host: string, port: number, timeoutMs: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const socket = connect({ host, port, signal: AbortSignal.timeout(timeoutMs) })
  socket.on('connect', resolve)
  socket.on('error', reject)
  await promise.finally(() => socket.destroy())
}

function portNumber(port: number | string | object, target: ProbeTarget): number {
  if (typeof port === 'number') return port
  const named = target.ports.get(String(port)) ?? Number(port)
  if (!Number.isInteger(named)) throw new Error(`the container has no port named "${String(port)}"`)
  return named
}

/** Probes again and again and reports changes between passing and failing, by the probe's thresholds. */
export class ProbeLoop {
  readonly #probe: Probe
  readonly #target: ProbeTarget
  readonly #onVerdict: (outcome: ProbeOutcome) => void
  readonly #isEager: boolean
  /** Since when somebody waits for a success. */
  #waitsSince: number
  #timer: NodeJS.Timeout | undefined
  /** When the next look is due by the probe's own period; what fails before counts for nothing. */
  #dueAt: number
  #streak = 0
  #last: boolean | undefined
  #verdict: boolean | undefined
  #isStopped = false

  /**
   * Starts at once, or when the container has run for initialDelaySeconds. `eager` adds looks between those of the period until the first
   * success, of which only successes count: a lab is watched by someone who waits.
   */
  constructor(
    probe: Probe,
    target: ProbeTarget,
    onVerdict: (outcome: ProbeOutcome) => void,
    options: { readonly eager: boolean; readonly startedAt: Date },
  ) {
    this.#probe = probe
    this.#target = target
    this.#onVerdict = onVerdict
    this.#isEager = options.eager
    const delayMs = (probe.initialDelaySeconds ?? PROBE_DEFAULTS.initialDelaySeconds) * 1000
    this.#waitsSince = Math.max(Date.now(), options.startedAt.getTime() + delayMs)
    this.#dueAt = this.#waitsSince
    this.#timer = setTimeout(() => void this.#round(true), this.#dueAt - Date.now())
  }

  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
  }

  async #round(isDue: boolean): Promise<void> {
    const outcome = await runProbe(this.#probe, this.#target)
    if (this.#isStopped) return
    if (isDue || outcome.passed) this.#count(outcome)
    const periodMs = (this.#probe.periodSeconds ?? PROBE_DEFAULTS.periodSeconds) * 1000
    if (isDue || outcome.passed) this.#dueAt = Date.now() + periodMs
    const untilDueMs = Math.max(0, this.#dueAt - Date.now())
    const isSoon = this.#isEager && this.#verdict !== true && this.#eagerIntervalMs() < untilDueMs
    this.#timer = setTimeout(
      () => void this.#round(!isSoon),
      isSoon ? this.#eagerIntervalMs() : untilDueMs,
    )
  }

  /** The longer it has taken the less often: looks must not take the processor from what they wait for. */
  #eagerIntervalMs(): number {
    return Math.max(EAGER_INTERVAL_MS, (Date.now() - this.#waitsSince) * EAGER_SHARE)
  }

  #count(outcome: ProbeOutcome): void {
    this.#streak = outcome.passed === this.#last ? this.#streak + 1 : 1
    this.#last = outcome.passed
    const threshold = outcome.passed
      ? (this.#probe.successThreshold ?? PROBE_DEFAULTS.successThreshold)
      : (this.#probe.failureThreshold ?? PROBE_DEFAULTS.failureThreshold)
    if (this.#streak < threshold || outcome.passed === this.#verdict) return
    this.#verdict = outcome.passed
    this.#waitsSince = Date.now()
    this.#onVerdict(outcome)
  }
}

/** A startup or readiness probe that has not passed yet is repeated this often at most. */
const EAGER_INTERVAL_MS = 100
/** Of the time that has been waited already. */
const EAGER_SHARE = 0.1
