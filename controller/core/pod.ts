// SPDX-License-Identifier: Apache-2.0
// What the mesh needs of a Pod, read and validated once, free of everything else a Pod carries.

import type { Pod } from '../../mesh/kube/resources.ts'
import {
  CANONICAL_NAME_LABEL,
  CANONICAL_REVISION_LABEL,
  OWN_REDIRECTION_ANNOTATION,
  REDIRECTION_ANNOTATION,
  SIDECAR_ANNOTATION,
  TUNNEL_LABEL,
} from '../../mesh/model/names.ts'
import type { NamedPort } from '../../mesh/model/network-policy.ts'
import type { IpAddress, TunnelProtocol, WorkloadType } from '../../mesh/model/types.ts'
import { ownerOf } from './owner.ts'
import type { Origin } from './origin.ts'
import { readWaypointUse, type WaypointUse } from '../gateway-api/waypoint-use.ts'
import { ObjectReader, type Reading } from '../reading/object-reader.ts'
import { readNamedPorts } from './named-ports.ts'

const HASH_LABEL = 'pod-template-hash'
const NAME_LABELS = [CANONICAL_NAME_LABEL, 'app.kubernetes.io/name', 'app'] as const
const REVISION_LABELS = [CANONICAL_REVISION_LABEL, 'app.kubernetes.io/version', 'version'] as const

export interface PodFacts {
  readonly name: string
  /** The Kubernetes UID: tells a pod from its successor of the same name. */
  readonly kubernetesUid: string
  /** None until the pod has got one. */
  readonly addresses: readonly IpAddress[]
  readonly node: string
  /** It has run to its end: its address may be another's, and its identity is nobody's. */
  readonly hasEnded: boolean
  /** Ready and not being deleted. */
  readonly isHealthy: boolean
  readonly template: PodTemplate
}

/** What the pods of one Deployment have in common as a rule, so that it can be kept once for all of them. */
export interface PodTemplate {
  readonly cluster: string
  readonly namespace: string
  readonly labels: ReadonlyMap<string, string>
  readonly serviceAccount: string
  readonly isHostNetwork: boolean
  /** A proxy of its own speaks for it, with its own token. */
  readonly hasSidecar: boolean
  readonly tunnelProtocol: TunnelProtocol
  readonly nativeTunnel: boolean
  readonly canonicalName: string
  readonly canonicalRevision: string
  readonly workloadType: WorkloadType
  readonly workloadName: string
  /** Of its containers, for TCP. */
  readonly namedPorts: readonly NamedPort[]
  /** What it says of waypoints. */
  readonly waypointUse: WaypointUse | undefined
}

/** Reads a Pod. */
export function readPod(pod: Pod, origin: Origin): Reading<PodFacts> {
  const reader = new ObjectReader('Pod', pod.metadata)
  const { metadata, spec, status } = pod
  const name = reader.text('metadata.name', metadata?.name)
  const namespace = reader.text('metadata.namespace', metadata?.namespace)
  const labels = reader.texts('metadata.labels', metadata?.labels)
  const annotations = reader.texts('metadata.annotations', metadata?.annotations)
  const nativeTunnel = labels.get(TUNNEL_LABEL) === 'http'
  const isEnrolled = [REDIRECTION_ANNOTATION, OWN_REDIRECTION_ANNOTATION].some(
    (name) => annotations.get(name) === 'enabled',
  )
  const conditions = reader.list('status.conditions', status?.conditions)
  const isReady = conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True')
  const controller = reader
    .list('metadata.ownerReferences', metadata?.ownerReferences)
    .find((reference) => reference.controller === true)
  const owner = ownerOf(name, readOwner(reader, controller), labels.get(HASH_LABEL) ?? '')
  const addresses = podAddresses(pod, reader)
  const template: PodTemplate = {
    cluster: origin.cluster,
    namespace,
    labels,
    serviceAccount: reader.text('spec.serviceAccountName', spec?.serviceAccountName) || 'default',
    isHostNetwork: spec?.hostNetwork === true,
    hasSidecar: annotations.has(SIDECAR_ANNOTATION),
    tunnelProtocol: nativeTunnel || isEnrolled ? 'hbone' : 'none',
    nativeTunnel,
    canonicalName: firstLabel(labels, NAME_LABELS) ?? owner.workloadName,
    canonicalRevision: firstLabel(labels, REVISION_LABELS) ?? 'latest',
    workloadType: owner.workloadType,
    workloadName: owner.workloadName,
    namedPorts: readNamedPorts(reader, pod),
    waypointUse: readWaypointUse(reader, namespace, labels, annotations, origin),
  }
  const facts: PodFacts = {
    name,
    kubernetesUid: reader.text('metadata.uid', metadata?.uid),
    addresses,
    node: reader.text('spec.nodeName', spec?.nodeName),
    hasEnded: status?.phase === 'Succeeded' || status?.phase === 'Failed',
    isHealthy: isReady && (metadata?.deletionTimestamp ?? '') === '',
    template,
  }
  return { facts, problems: reader.problems }
}

function readOwner(
  reader: ObjectReader,
  controller: { readonly kind: string; readonly name: string } | undefined,
): { readonly kind: string; readonly name: string } | undefined {
  if (controller === undefined) return undefined
  return {
    kind: reader.text('metadata.ownerReferences.kind', controller.kind),
    name: reader.text('metadata.ownerReferences.name', controller.name),
  }
}

function podAddresses(pod: Pod, reader: ObjectReader): readonly IpAddress[] {
  const { podIP } = pod.status ?? {}
  const all = reader.list('status.podIPs', pod.status?.podIPs)
  const addresses = all.map((entry, index) => reader.ip(`status.podIPs[${index}].ip`, entry.ip))
  if (all.length === 0 && podIP !== undefined && podIP !== '')
    addresses.push(reader.ip('status.podIP', podIP))
  return [...new Set(addresses.filter((address) => address !== undefined))]
}

function firstLabel(
  labels: ReadonlyMap<string, string>,
  names: readonly string[],
): string | undefined {
  for (const name of names) {
    const value = labels.get(name)
    if (value !== undefined && value !== '') return value
  }
  return undefined
}
