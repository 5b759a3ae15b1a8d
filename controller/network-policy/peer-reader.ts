// SPDX-License-Identifier: Apache-2.0
// Reads the peers of a NetworkPolicy's rule. A peer of which anything cannot be read is nobody: it never lets in more than is written.

import type { NetworkPeer } from '../../mesh/model/network-policy.ts'
import { type Area, WHOLE_MESH } from '../istio-api/placed-policy.ts'
import { readAddressRange } from '../istio-api/condition-values.ts'
import { type Fields, fieldsOf, isAbsent } from '../istio-api/flaw.ts'
import type { ObjectReader } from '../reading/object-reader.ts'
import {
  EVERYTHING,
  type LabelSelector,
  readLabelSelector,
  selectorName,
  selectsAll,
} from './label-selector.ts'

/** Pods that a rule speaks of by their labels, where their namespace alone does not decide it. */
export interface PeerGroup {
  readonly name: string
  /** Where such pods are: one namespace, or any of those that `namespaces` selects. */
  readonly area: Area
  readonly namespaces: LabelSelector
  readonly pods: LabelSelector
  /** What it is looked up by: the labels that the pods must have; undefined where none is said. */
  readonly selector: ReadonlyMap<string, string> | undefined
}

/** What it depends on, who a peer is. */
export interface PeerContext {
  readonly reader: ObjectReader
  readonly namespace: string
  /** Takes the groups that are named. */
  readonly groups: Map<string, PeerGroup>
}

/** Every namespace has it, with its own name. */
export const NAMESPACE_NAME_LABEL = 'kubernetes.io/metadata.name'
const PEER_FIELDS = ['podSelector', 'namespaceSelector', 'ipBlock']
const BLOCK_FIELDS = ['cidr', 'except']

/** Reads one entry of `from` or `to`. */
export function readPeer(
  context: PeerContext,
  field: string,
  value: unknown,
): NetworkPeer | undefined {
  const { reader } = context
  const peer = readFields(reader, field, value, PEER_FIELDS)
  if (peer === undefined) return undefined
  const { podSelector, namespaceSelector, ipBlock } = peer
  const isByLabels = !isAbsent(podSelector) || !isAbsent(namespaceSelector)
  if (isAbsent(ipBlock) !== isByLabels) {
    reader.note(field, 'is not either an ipBlock or selectors')
    return undefined
  }
  return isByLabels
    ? readPods(context, field, podSelector, namespaceSelector)
    : readBlock(reader, `${field}.ipBlock`, ipBlock)
}

function readPods(
  context: PeerContext,
  field: string,
  podSelector: unknown,
  namespaceSelector: unknown,
): NetworkPeer | undefined {
  const { reader, namespace, groups } = context
  const pods = isAbsent(podSelector)
    ? EVERYTHING
    : readLabelSelector(reader, `${field}.podSelector`, podSelector)
  const namespaces = isAbsent(namespaceSelector)
    ? exactly(NAMESPACE_NAME_LABEL, namespace)
    : readLabelSelector(reader, `${field}.namespaceSelector`, namespaceSelector)
  if (pods === undefined || namespaces === undefined) return undefined
  const only = onlyNamespace(namespaces)
  if (selectsAll(pods)) {
    if (only !== undefined) return { kind: 'namespace', namespace: only }
    if (selectsAll(namespaces)) return { kind: 'everyPod' }
  }
  const name = selectorName(namespaces, pods)
  groups.set(name, {
    name,
    area: only === undefined ? WHOLE_MESH : (only as Area),
    namespaces,
    pods,
    selector: pods.exact.size === 0 ? undefined : pods.exact,
  })
  return { kind: 'group', group: name }
}

/** The namespace, where one alone is selected, and by its name. */
function onlyNamespace({ exact, others }: LabelSelector): string | undefined {
  const name = exact.get(NAMESPACE_NAME_LABEL)
  return exact.size === 1 && others.length === 0 && name !== '' ? name : undefined
}

function exactly(key: string, value: string): LabelSelector {
  return { exact: new Map([[key, value]]), others: [] }
}

function readBlock(reader: ObjectReader, field: string, value: unknown): NetworkPeer | undefined {
  const block = readFields(reader, field, value, BLOCK_FIELDS)
  if (block === undefined) return undefined
  const range = readAddressRange(block.cidr, '')
  if (!range.ok) {
    reader.note(`${field}.cidr`, range.error)
    return undefined
  }
  const listed = isAbsent(block.except) ? [] : block.except
  if (!Array.isArray(listed)) {
    reader.note(`${field}.except`, 'is not a list')
    return undefined
  }
  const except = (listed as readonly unknown[]).map((each, place) => {
    const read = readAddressRange(each, '')
    if (!read.ok) reader.note(`${field}.except[${place}]`, read.error)
    return read.ok ? read.value : undefined
  })
  // Without an exception it would be a wider range.
  if (except.includes(undefined)) return undefined
  return { kind: 'range', range: range.value, except: except.filter((each) => each !== undefined) }
}

/** The fields of a map that has no others than these. */
export function readFields(
  reader: ObjectReader,
  field: string,
  value: unknown,
  known: readonly string[],
): Fields | undefined {
  const fields = fieldsOf(value)
  if (fields === undefined) {
    reader.note(field, 'is not a map')
    return undefined
  }
  const unknown = Object.keys(fields).find((name) => !known.includes(name))
  if (unknown === undefined) return fields
  reader.note(`${field}.${unknown}`, 'is no field that is known')
  return undefined
}
