// SPDX-License-Identifier: Apache-2.0
// What the mesh needs of a Gateway (gateway.networking.k8s.io/v1), read once. Most clusters have Gateways of others, too: whose this one is
// its class says, and only of ours anything follows. Nothing of such an object is sure, whatever the API server has validated.

import { WAYPOINT_FOR_LABEL } from '../../mesh/model/names.ts'
import type { Origin } from '../core/origin.ts'
import { type Fields, type Flaw, FlawReader, fieldsOf, isAbsent, shown } from '../istio-api/flaw.ts'
import { type PolicyObject, readSeen, type SeenObject } from '../istio-api/seen-object.ts'
import type { Reading } from '../reading/object-reader.ts'
import { type ListenerFacts, readListeners } from './listener.ts'
import { readTraffic, type WaypointTraffic } from './waypoint-traffic.ts'

export interface GatewayFacts {
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  readonly seen: SeenObject
  readonly className: string
  /** Undefined: as its class says. */
  readonly traffic: WaypointTraffic | undefined
  readonly listeners: readonly ListenerFacts[]
  readonly infrastructure: Infrastructure
  /** What is asked for its addresses. */
  readonly addresses: readonly AskedAddress[]
  /** What its status says already, beside conditions. */
  readonly status: { readonly addresses: unknown; readonly listeners: unknown }
  readonly flaws: readonly Flaw[]
}

/** An address that is asked for. */
export interface AskedAddress {
  readonly field: string
  /** As it is written; `IPAddress` where nothing is. */
  readonly type: string
  /** Undefined: any. */
  readonly value: string | undefined
}

/** The one type of addresses that a Service has, and so a waypoint. */
export const IP_ADDRESS = 'IPAddress'

/** What is asked for the objects that are made of a Gateway. */
export interface Infrastructure {
  readonly labels: ReadonlyMap<string, string>
  readonly annotations: ReadonlyMap<string, string>
  readonly parameters: ParametersRef
}

/** Where an overlay of these objects lies: in a ConfigMap of the Gateway's namespace. */
export type ParametersRef =
  | { readonly kind: 'none' }
  | { readonly kind: 'configMap'; readonly name: string }
  | { readonly kind: 'unusable'; readonly reason: string }

/** As many as the Gateway API takes. */
const MOST_ADDRESSES = 16
const NO_PARAMETERS: ParametersRef = { kind: 'none' }

/** Reads a Gateway. */
export function readGateway(object: PolicyObject, { cluster }: Origin): Reading<GatewayFacts> {
  const metadata = fieldsOf(object.metadata) ?? {}
  const reader = new FlawReader('Gateway', metadata)
  const spec = fieldsOf(object.spec) ?? {}
  const status = fieldsOf(object.status) ?? {}
  const text = (value: unknown): string => (typeof value === 'string' ? value : '')
  const facts: GatewayFacts = {
    cluster,
    namespace: text(metadata['namespace']),
    name: text(metadata['name']),
    seen: readSeen(reader, object),
    className: text(spec['gatewayClassName']),
    traffic: readTraffic(reader, fieldsOf(metadata['labels'])?.[WAYPOINT_FOR_LABEL]),
    listeners: readListeners(reader, spec['listeners']),
    addresses: readAddresses(reader, spec['addresses']),
    infrastructure: readInfrastructure(reader, spec['infrastructure']),
    status: { addresses: status['addresses'], listeners: status['listeners'] },
    flaws: reader.flaws,
  }
  return { facts, problems: reader.problems }
}

/** What cannot be read is of no type that anybody could give. */
function readAddresses(reader: FlawReader, value: unknown): readonly AskedAddress[] {
  if (isAbsent(value)) return []
  const field = 'spec.addresses'
  if (!Array.isArray(value)) {
    reader.note(field, `${shown(value)} is not a list`)
    return [{ field, type: '', value: undefined }]
  }
  return (value as readonly unknown[]).slice(0, MOST_ADDRESSES).map((each, at) => {
    const place = `${field}[${at}]`
    const { type, value: address } = fieldsOf(each) ?? { type: each }
    const isType = isAbsent(type) || typeof type === 'string'
    const isValue = isAbsent(address) || typeof address === 'string'
    if (!isType || !isValue) reader.note(place, `${shown(each)} is not an address`)
    return {
      field: place,
      type: !isType || !isValue ? '' : (type ?? IP_ADDRESS),
      value: typeof address === 'string' && address !== '' ? address : undefined,
    }
  })
}

function readInfrastructure(reader: FlawReader, value: unknown): Infrastructure {
  const fields = fieldsOf(value) ?? {}
  return {
    labels: readTexts(reader, 'spec.infrastructure.labels', fields['labels']),
    annotations: readTexts(reader, 'spec.infrastructure.annotations', fields['annotations']),
    parameters: readParameters(reader, fields['parametersRef']),
  }
}

function readTexts(reader: FlawReader, field: string, value: unknown): ReadonlyMap<string, string> {
  if (isAbsent(value)) return new Map()
  const fields = fieldsOf(value)
  if (fields === undefined) reader.note(field, 'is not a map')
  return new Map(
    Object.entries(fields ?? {}).filter((entry): entry is [string, string] => {
      if (typeof entry[1] === 'string') return true
      reader.note(`${field}[${entry[0]}]`, `${shown(entry[1])} is not a text`)
      return false
    }),
  )
}

function readParameters(reader: FlawReader, value: unknown): ParametersRef {
  if (isAbsent(value)) return NO_PARAMETERS
  const field = 'spec.infrastructure.parametersRef'
  const { group, kind, name }: Fields = fieldsOf(value) ?? {}
  const isConfigMap = (isAbsent(group) || group === '') && kind === 'ConfigMap'
  if (isConfigMap && typeof name === 'string' && name !== '') return { kind: 'configMap', name }
  const reason = `${field} names a ${shown(kind)} of group ${shown(group)}, which is no ConfigMap`
  reader.note(field, 'names no ConfigMap')
  return { kind: 'unusable', reason }
}
