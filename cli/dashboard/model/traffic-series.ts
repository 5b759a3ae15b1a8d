// SPDX-License-Identifier: Apache-2.0
// Istio's series out of an agent's metrics of connections, or a waypoint's of requests, added up to what the graph tells apart: who called whom, by which Service, authenticated
// how, and whether a policy refused it.

import { END_REASONS } from '../../../mesh/telemetry/end-reason.ts'
import type { Security } from '../view.ts'

export interface SeriesKey {
  readonly from: string
  readonly to: string
  readonly service: string
  readonly reporter: 'source' | 'destination' | 'waypoint'
  readonly security: Exclude<Security, 'unused'>
}

/** Of one key. */
export interface Counts {
  opened: number
  closed: number
  errors: number
  denials: number
  requestBytes: number
  responseBytes: number
  requests: number
  failedRequests: number
  deniedRequests: number
}

export type TrafficCounts = ReadonlyMap<
  string,
  { readonly key: SeriesKey; readonly counts: Counts }
>

/** Peers that nobody knows. */
export const UNKNOWN = 'unknown'

/** Names hold whatever their owners like, line ends of all kinds included. */
const SERIES =
  /^istio_tcp_(connections_opened|connections_closed|connections_failed|sent_bytes|received_bytes)_total\{(.*)\} (\S+)/s
const LABEL = /([a-z_]+)="((?:[^"\\]|\\.)*)"/gs
const DENIED = END_REASONS.policyDenied.flag
const NO_FLAG = END_REASONS.ok.flag

/** Nothing counted. */
export function noCounts(): Counts {
  return {
    opened: 0,
    closed: 0,
    errors: 0,
    denials: 0,
    requestBytes: 0,
    responseBytes: 0,
    requests: 0,
    failedRequests: 0,
    deniedRequests: 0,
  }
}

/** Reads them; what is no such series is passed over. */
export function readTraffic(exposition: string): TrafficCounts {
  const found = new Map<string, { key: SeriesKey; counts: Counts }>()
  for (const line of exposition.split('\n')) {
    const match = SERIES.exec(line)
    if (match === null) continue
    const [, name = '', labelText = '', number = ''] = match
    const value = Number(number)
    if (!Number.isFinite(value) || value < 0) continue
    const labels = readLabels(labelText)
    const key = seriesKey(labels)
    const id = JSON.stringify(Object.values(key))
    let entry = found.get(id)
    if (entry === undefined) {
      entry = { key, counts: noCounts() }
      found.set(id, entry)
    }
    addSeries(entry.counts, name, labels.get('response_flags') ?? NO_FLAG, value)
  }
  return found
}

const REQUESTS = /^istio_requests_total\{(.*)\} (\S+)/s
/** Of a request that a policy refused. */
const REFUSED = 'RBAC'
const FIRST_SERVER_ERROR = 500

/**
 * Reads a waypoint's: each request goes from its client to the waypoint, and on to its endpoint where it got so far. `waypoint`: its
 * `namespace/name`.
 */
export function readRequests(exposition: string, waypoint: string): TrafficCounts {
  const found = new Map<string, { key: SeriesKey; counts: Counts }>()
  for (const line of exposition.split('\n')) {
    const match = REQUESTS.exec(line)
    if (match === null) continue
    const [, labelText = '', number = ''] = match
    const value = Number(number)
    if (!Number.isFinite(value) || value < 0) continue
    const labels = readLabels(labelText)
    const key: SeriesKey = { ...seriesKey(labels), reporter: 'waypoint' }
    const status = Number(labels.get('response_code') ?? 0)
    const isDenied = labels.get('response_flags') === REFUSED
    const isFailed = !isDenied && !(status > 0 && status < FIRST_SERVER_ERROR)
    const ways = [
      { ...key, to: waypoint },
      ...(key.to === `${UNKNOWN}/${UNKNOWN}` ? [] : [{ ...key, from: waypoint }]),
    ]
    for (const way of ways) {
      const id = JSON.stringify(Object.values(way))
      const entry = found.get(id) ?? { key: way, counts: noCounts() }
      found.set(id, entry)
      entry.counts.requests += value
      if (isDenied) entry.counts.deniedRequests += value
      if (isFailed) entry.counts.failedRequests += value
    }
  }
  return found
}

function addSeries(counts: Counts, name: string, flag: string, value: number): void {
  switch (name) {
    case 'connections_opened':
      counts.opened += value
      return
    case 'sent_bytes':
      counts.responseBytes += value
      return
    case 'received_bytes':
      counts.requestBytes += value
      return
    case 'connections_closed':
      counts.closed += value
      break
  }
  // An end by a change of policy is a denial that came late.
  if (flag === DENIED) counts.denials += value
  else if (flag !== NO_FLAG || name === 'connections_failed') counts.errors += value
}

function seriesKey(labels: ReadonlyMap<string, string>): SeriesKey {
  const service = labels.get('destination_service_name') ?? UNKNOWN
  return {
    from: workloadId(labels, 'source'),
    to: workloadId(labels, 'destination'),
    service:
      service === UNKNOWN
        ? ''
        : `${labels.get('destination_service_namespace') ?? UNKNOWN}/${service}`,
    reporter: labels.get('reporter') === 'source' ? 'source' : 'destination',
    security: securityOf(labels.get('connection_security_policy') ?? UNKNOWN),
  }
}

function workloadId(labels: ReadonlyMap<string, string>, side: 'source' | 'destination'): string {
  return `${labels.get(`${side}_workload_namespace`) ?? UNKNOWN}/${labels.get(`${side}_workload`) ?? UNKNOWN}`
}

/** Any word of the operator's own is for connections inside the node (--same-node-security-label). */
function securityOf(word: string): SeriesKey['security'] {
  if (word === 'mutual_tls') return word
  return word === UNKNOWN ? 'plaintext' : 'node_local'
}

function readLabels(text: string): ReadonlyMap<string, string> {
  const labels = new Map<string, string>()
  for (const [, name = '', value = ''] of text.matchAll(LABEL))
    labels.set(
      name,
      value.includes('\\')
        ? value.replace(/\\(.)/gs, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped))
        : value,
    )
  return labels
}
