// SPDX-License-Identifier: Apache-2.0
// What connections of either version of HTTP have in common: the choice of an endpoint that is not the one that has just failed, and for
// whom a connection may be used.

import type { HboneFailure } from '../../mesh/hbone/types.ts'
import type { BackendTls } from '../../mesh/model/backend-tls.ts'
import type { WorkloadUid } from '../../mesh/model/types.ts'
import type { ConnectFailure } from '../exchange/types.ts'
import type { Endpoint } from '../exchange/upstream-connection.ts'
import type { ChosenUpstream, OpenedUpstream, UpstreamCall, Upstreams } from './upstreams.ts'

export class EndpointChoice {
  readonly #upstreams: Pick<Upstreams, 'choose'>
  /** Which endpoint of its Service it was, for who wants another one. */
  readonly #listed = new WeakMap<Endpoint, WorkloadUid>()

  constructor(upstreams: Pick<Upstreams, 'choose'>) {
    this.#upstreams = upstreams
  }

  /** Chooses an endpoint; another than that one, where there is another. */
  choose(call: UpstreamCall, avoid: Endpoint | undefined): ReturnType<Upstreams['choose']> {
    const avoided = avoid && this.#listed.get(avoid)
    if (avoided === undefined) return this.#upstreams.choose(call, undefined)
    const another = this.#upstreams.choose(call, new Set([avoided]))
    return another.ok ? another : this.#upstreams.choose(call, undefined)
  }

  /** Remembers what a connection leads to. */
  opened({ endpoint, chosen }: OpenedUpstream): void {
    this.#listed.set(endpoint, chosen.endpoint.endpoint)
  }
}

/** For whom and whereto a connection is. Hot: once a request, and so it is the same text as for the request before. */
export function connectionKey({ source }: UpstreamCall, chosen: ChosenUpstream): string {
  const { kind, endpoint, service, tls } = chosen
  let known = keys.get(source)
  if (known === undefined) {
    known = new Map()
    keys.set(source, known)
  }
  const before = known.get(endpoint.endpoint)
  if (
    before !== undefined &&
    before.kind === kind &&
    before.port === endpoint.port &&
    before.service === service?.key &&
    before.tls === tls
  )
    return before.key
  const key = makeKey(source, chosen)
  if (known.size >= MOST_KNOWN) known.clear()
  known.set(endpoint.endpoint, { kind, port: endpoint.port, service: service?.key, tls, key })
  return key
}

function makeKey(
  source: UpstreamCall['source'],
  { kind, endpoint, service, tls }: ChosenUpstream,
): string {
  // Who was trusted by another policy than the present one is not, perhaps, by that.
  const trust = tls === undefined ? '' : ` ${numberOf(tls)}`
  const way = `${endpoint.endpoint} ${endpoint.port} ${service?.key ?? ''}${trust}`
  // In plain nobody is told whom it is for, and so anybody may use it.
  return kind === 'plain' ? way : `${way} ${source.address?.address ?? ''} ${source.identity ?? ''}`
}

interface KnownKey {
  readonly kind: ChosenUpstream['kind']
  readonly port: number
  readonly service: string | undefined
  readonly tls: BackendTls | undefined
  readonly key: string
}

/** Of one client: a cache, which endpoints that came and went would fill. */
const MOST_KNOWN = 64
/** The last key of each endpoint, by who calls. */
const keys = new WeakMap<UpstreamCall['source'], Map<WorkloadUid, KnownKey>>()

const numbers = new WeakMap<BackendTls, number>()
let lastNumber = 0

/** Each state of a policy has one of its own. */
function numberOf(tls: BackendTls): number {
  let number = numbers.get(tls)
  if (number === undefined) {
    lastNumber += 1
    number = lastNumber
    numbers.set(tls, number)
  }
  return number
}

/** A connection that cannot be had, as an exchange hears of it. */
export function connectFailure({ reason, message }: HboneFailure): ConnectFailure {
  return { flag: reason === 'noHealthyUpstream' ? 'UH' : 'UF', reason, message }
}
