// SPDX-License-Identifier: Apache-2.0
// Reads a NetworkPolicy (networking.k8s.io/v1). Kubernetes checks what is written in it; what is odd all the same never opens anything: a
// rule that cannot be read allows nothing, a selector that cannot be read selects all that it may.

import { errorMessage } from '../../mesh/errors.ts'
import type {
  NetworkDirection,
  NetworkPolicy,
  NetworkPort,
  NetworkRule,
} from '../../mesh/model/network-policy.ts'
import type { PolicyKey } from '../../mesh/model/policy.ts'
import type { Area } from '../istio-api/placed-policy.ts'
import { type Fields, fieldsOf, isAbsent, shown } from '../istio-api/flaw.ts'
import type { PolicyObject } from '../istio-api/seen-object.ts'
import { ObjectReader, type Reading } from '../reading/object-reader.ts'
import { EVERYTHING, type LabelSelector, readLabelSelector } from './label-selector.ts'
import { type PeerGroup, readFields, readPeer } from './peer-reader.ts'
import { readPort } from './port-reader.ts'

export interface NetworkPolicyFacts {
  readonly policy: NetworkPolicy
  /** The namespace, of whose pods it selects some. */
  readonly area: Area
  readonly pods: LabelSelector
  /** What it is looked up by: the labels that the pods must have; undefined where none is said. */
  readonly selector: ReadonlyMap<string, string> | undefined
  /** Whom its rules speak of. */
  readonly groups: readonly PeerGroup[]
}

/** Rules, peers, ports and exceptions of one policy: as much as agents will keep of each. */
const MOST_ENTRIES = 10_000
const SPEC_FIELDS = ['podSelector', 'policyTypes', 'ingress', 'egress']
const NOTHING: NetworkDirection = { rules: [] }

/** Reads a NetworkPolicy. Never throws. Should the reading itself fail, it is one that allows nothing: not one that does not exist. */
export function readNetworkPolicy(object: PolicyObject): Reading<NetworkPolicyFacts> {
  try {
    return read(object)
  } catch (thrown) {
    return read({ metadata: object.metadata, spec: `what cannot be read: ${errorMessage(thrown)}` })
  }
}

function read({ metadata: stored, spec: written }: PolicyObject): Reading<NetworkPolicyFacts> {
  const metadata = fieldsOf(stored) ?? {}
  const reader = new ObjectReader('NetworkPolicy', metadata)
  const namespace = typeof metadata.namespace === 'string' ? metadata.namespace : ''
  const name = typeof metadata.name === 'string' ? metadata.name : ''
  const groups = new Map<string, PeerGroup>()
  const spec = readFields(reader, 'spec', written, SPEC_FIELDS)
  const pods = spec && readTarget(reader, spec)
  const types = spec === undefined ? undefined : readTypes(reader, spec)
  const context = { reader, namespace, groups, left: MOST_ENTRIES }
  const direction = (type: 'Ingress' | 'Egress', field: string, peers: string) => {
    if (types?.has(type) === false) return undefined
    return spec === undefined ? NOTHING : readDirection(context, spec, field, peers)
  }
  const ingress = direction('Ingress', 'ingress', 'from')
  const egress = direction('Egress', 'egress', 'to')
  const policy = { key: `${namespace}/${name}` as PolicyKey, namespace, name, ingress, egress }
  const selected = pods ?? EVERYTHING
  const facts: NetworkPolicyFacts = {
    policy,
    area: namespace as Area,
    pods: selected,
    selector: selected.exact.size === 0 ? undefined : selected.exact,
    groups: [...groups.values()],
  }
  return { facts, problems: reader.problems }
}

/** Absent it is as the empty one. */
function readTarget(reader: ObjectReader, { podSelector }: Fields): LabelSelector | undefined {
  return isAbsent(podSelector)
    ? EVERYTHING
    : readLabelSelector(reader, 'spec.podSelector', podSelector)
}

/** As the API server sets it where it is left out; of types that cannot be read both are meant. */
function readTypes(
  reader: ObjectReader,
  { policyTypes, egress }: Fields,
): ReadonlySet<unknown> | undefined {
  const types: unknown = isAbsent(policyTypes) ? [] : policyTypes
  if (!Array.isArray(types) || types.some((type) => type !== 'Ingress' && type !== 'Egress')) {
    reader.note('spec.policyTypes', 'is not a list of Ingress and Egress')
    return undefined
  }
  if (types.length > 0) return new Set(types as readonly unknown[])
  const hasEgress = !isAbsent(egress) && !(Array.isArray(egress) && egress.length === 0)
  return new Set(hasEgress ? ['Ingress', 'Egress'] : ['Ingress'])
}

type Context = Parameters<typeof readPeer>[0] & { left: number }

function readDirection(
  context: Context,
  spec: Fields,
  field: string,
  peers: string,
): NetworkDirection {
  const path = `spec.${field}`
  const rules: NetworkRule[] = []
  for (const [place, rule] of listAt(context, path, spec[field]).entries()) {
    const each = readRule(context, `${path}[${place}]`, rule, peers, place)
    if (each !== undefined) rules.push(each)
  }
  if (context.left >= 0) return { rules }
  context.reader.note(path, `has more than ${MOST_ENTRIES} rules, peers and ports in all`)
  return NOTHING
}

function readRule(
  context: Context,
  field: string,
  value: unknown,
  peersField: string,
  place: number,
): NetworkRule | undefined {
  const { reader } = context
  const rule = readFields(reader, field, value, [peersField, 'ports'])
  if (rule === undefined) return undefined
  const writtenPorts = listAt(context, `${field}.ports`, rule.ports)
  const writtenPeers = listAt(context, `${field}.${peersField}`, rule[peersField])
  const ports: (NetworkPort | 'any')[] = writtenPorts.flatMap(
    (port, at) => readPort(reader, `${field}.ports[${at}]`, port) ?? [],
  )
  const isAnyPort = isNothing(rule.ports) || ports.includes('any')
  const isAnyPeer = isNothing(rule[peersField])
  const peers = writtenPeers.flatMap(
    (peer, at) => readPeer(context, `${field}.${peersField}[${at}]`, peer) ?? [],
  )
  // Of UDP and SCTP alone: it allows no connection.
  if ((!isAnyPort && ports.length === 0) || (!isAnyPeer && peers.length === 0)) return undefined
  return {
    peers: isAnyPeer ? [] : peers,
    ports: isAnyPort ? [] : ports.filter((port) => port !== 'any'),
    isAnyPeer,
    isAnyPort,
    place,
  }
}

/** What means everything: nothing said, or an empty list. */
function isNothing(value: unknown): boolean {
  return isAbsent(value) || (Array.isArray(value) && value.length === 0)
}

/** The entries, as long as the policy has not too many in all. */
function listAt(context: Context, field: string, value: unknown): readonly unknown[] {
  if (isAbsent(value)) return []
  if (!Array.isArray(value)) {
    context.reader.note(field, `${shown(value)} is not a list`)
    return []
  }
  context.left -= value.length
  return context.left < 0 ? [] : (value as readonly unknown[])
}
