// SPDX-License-Identifier: Apache-2.0
// The access line of a request. What it says of client, service, endpoint and route is the same for many requests: its text is made once for
// each of them, and a line is put together from such parts. Hot: once a request (bench/waypoint-sight.ts).

import type { RouteName } from '../mesh/model/http-routes.ts'
import { formatSocketAddress } from '../mesh/model/address.ts'
import type { AccessFields } from '../mesh/telemetry/access-line.ts'
import type { CalledService } from '../mesh/telemetry/connection-record.ts'
import { excerpt } from '../mesh/telemetry/excerpt.ts'
import { jsonOfFields } from '../mesh/telemetry/plain-lines.ts'
import type { AccessLine } from './access-log.ts'
import type { RequestRecord } from './exchange/types.ts'
import type { Endpoint } from './exchange/upstream-connection.ts'
import type { Call, CallSource } from './listener/call.ts'
import type { DeniedAnswer } from './policy/enforcement.ts'
import type { PolicyRefusal } from './policy/policy-gate.ts'
import type { RoutedAnswer, RoutedForward } from './router/types.ts'
import { provenIdentity } from './seen-parties.ts'
import type { Trace } from './tracing/tracer.ts'

/** The line of one request; its fields and its text say the same, in the same order. */
export class RequestLine implements AccessLine {
  readonly #call: Call
  readonly #record: RequestRecord
  readonly #trace: Trace | undefined
  #fields: AccessFields | undefined

  constructor(call: Call, record: RequestRecord, trace: Trace | undefined) {
    this.#call = call
    this.#record = record
    this.#trace = trace
  }

  get durationMs(): number {
    return this.#record.durationMs
  }

  get fields(): AccessFields {
    this.#fields ??= this.#makeFields()
    return this.#fields
  }

  get json(): string {
    const { source, service } = this.#call
    const record = this.#record
    const { endpoint } = record
    const route = routeOf(record.outcome)
    const rare = this.#rareFields()
    return (
      sourceText.of(source) +
      (service === undefined ? '' : `,${serviceText.of(service)}`) +
      (endpoint === undefined ? '' : `,${endpointText.of(endpoint)}`) +
      (route === undefined ? '' : `,${routeText.of(route)}`) +
      `,"protocol":"${record.protocol}","method":${JSON.stringify(record.method)}` +
      `,"path":${JSON.stringify(excerpt(record.target))},"authority":${JSON.stringify(excerpt(record.authority))}` +
      `,"response_code":${record.status},"response_flags":"${record.flag}"` +
      `,"bytes_recv":${record.requestBytes},"bytes_sent":${record.responseBytes}` +
      `,"attempts":${record.attempts},"duration":"${durationText(record)}"` +
      (rare === undefined ? '' : `,${jsonOfFields(rare)}`)
    )
  }

  #makeFields(): AccessFields {
    const { source, service } = this.#call
    const record = this.#record
    const { endpoint } = record
    const route = routeOf(record.outcome)
    return {
      ...sourceFields(source),
      ...(service && serviceFields(service)),
      ...(endpoint && endpointFields(endpoint)),
      ...(route && routeFields(route)),
      protocol: record.protocol,
      method: record.method,
      path: excerpt(record.target),
      authority: excerpt(record.authority),
      response_code: record.status,
      response_flags: record.flag,
      bytes_recv: record.requestBytes,
      bytes_sent: record.responseBytes,
      attempts: record.attempts,
      duration: durationText(record),
      ...this.#rareFields(),
    }
  }

  /** What most lines do not have; undefined: this one has none of it. */
  #rareFields(): AccessFields | undefined {
    const { grpcStatus, message, outcome } = this.#record
    const refusal = refusalOf(outcome)
    const error = message ?? refusal?.message ?? faultOf(outcome)
    const traceId = this.#trace?.traceId
    if (error === undefined && grpcStatus === undefined && traceId === undefined) return undefined
    return {
      policy: refusal?.by?.policy,
      rule: refusal?.by?.rule,
      grpc_status: grpcStatus,
      trace_id: traceId,
      error,
    }
  }
}

/** Text that is made once for each thing it is about, and goes with it. */
class PartTexts<About extends object> {
  readonly #texts = new WeakMap<About, string>()
  readonly #fieldsOf: (about: About) => AccessFields

  constructor(fieldsOf: (about: About) => AccessFields) {
    this.#fieldsOf = fieldsOf
  }

  of(about: About): string {
    let text = this.#texts.get(about)
    if (text === undefined) {
      text = jsonOfFields(this.#fieldsOf(about))
      this.#texts.set(about, text)
    }
    return text
  }
}

const sourceText = new PartTexts(sourceFields)
const serviceText = new PartTexts(serviceFields)
const endpointText = new PartTexts(endpointFields)
const routeText = new PartTexts(routeFields)

function sourceFields({ address, workload, identity }: CallSource): AccessFields {
  return {
    'src.addr': formatSocketAddress(address),
    'src.workload': workload?.name,
    'src.namespace': workload?.namespace,
    'src.identity': identity,
    'src.cluster': workload?.clusterId,
  }
}

function serviceFields({ hostname }: CalledService): AccessFields {
  return { 'dst.service': hostname }
}

function endpointFields({ address, workload }: Endpoint): AccessFields {
  return {
    'dst.addr': formatSocketAddress(address),
    'dst.workload': workload?.name,
    'dst.namespace': workload?.namespace,
    'dst.identity': workload && provenIdentity(workload),
    'dst.cluster': workload?.clusterId,
  }
}

/** Which rule took it. */
function routeFields({ namespace, name, rule }: RouteName): AccessFields {
  return { route: `${namespace}/${name}/${rule}` }
}

function durationText({ durationMs }: Pick<RequestRecord, 'durationMs'>): string {
  return `${Math.round(durationMs)}ms`
}

/** Undefined: no rule took it. */
function routeOf(outcome: RequestRecord['outcome']): RouteName | undefined {
  return isRouted(outcome) ? outcome.route : undefined
}

/** Why it was not let through. */
function refusalOf(outcome: RequestRecord['outcome']): PolicyRefusal | undefined {
  const isDenied = (each: RequestRecord['outcome']): each is DeniedAnswer =>
    each !== undefined && 'refusal' in each
  return isDenied(outcome) ? outcome.refusal : undefined
}

/** Why its rule could not be followed. */
function faultOf(outcome: RequestRecord['outcome']): string | undefined {
  return isRouted(outcome) && outcome.kind === 'answer' ? outcome.message : undefined
}

function isRouted(outcome: RequestRecord['outcome']): outcome is RoutedForward | RoutedAnswer {
  return outcome !== undefined && 'route' in outcome
}
