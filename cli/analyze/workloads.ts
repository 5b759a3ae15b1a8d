// SPDX-License-Identifier: Apache-2.0
// The workloads of a cluster: pods, those of one kind as one, and what pods are going to be made of.

import { eligibility } from '../../agent/enrolment/eligibility.ts'
import { ownerOf } from '../../controller/core/owner.ts'
import { fieldsOf } from '../../controller/istio-api/flaw.ts'
import type { Pod } from '../../mesh/kube/index.ts'
import { NEVER_ENROLLED_NAMESPACES } from '../../mesh/model/names.ts'
import type { ObjectRef } from './finding.ts'
import {
  mapsOf,
  type Objects,
  type RawObject,
  refOf,
  TEMPLATE_KINDS,
  textOf,
  textsOf,
} from './objects.ts'

export interface ContainerPort {
  readonly name: string
  readonly port: number
  readonly protocol: string
}

export interface WorkloadFacts extends ObjectRef {
  readonly labels: ReadonlyMap<string, string>
  readonly annotations: ReadonlyMap<string, string>
  readonly serviceAccount: string
  readonly ports: readonly ContainerPort[]
  /** It is, or will be, in the mesh; undefined when nobody can tell. */
  readonly isMember: boolean | undefined
}

const HASH_LABEL = 'pod-template-hash'

/**
 * Reads them; of pods that differ in nothing that is looked at, one: what selects a workload is asked for each.
 *
 * @param labelKeys labels that any selector names
 */
export function readWorkloads(
  objects: Objects,
  namespaceLabels: ReadonlyMap<string, ReadonlyMap<string, string>>,
  systemNamespace: string,
  labelKeys: ReadonlySet<string>,
): readonly WorkloadFacts[] {
  const workloads = new Map<string, WorkloadFacts>()
  const add = (ref: ObjectRef, template: RawObject): void => {
    const labels = namespaceLabels.get(ref.namespace)
    const facts = factsOf(ref, template, labels, systemNamespace)
    const { labels: own, annotations, serviceAccount, ports } = facts
    const isLookedAt = ([name]: readonly [string, string]): boolean =>
      labelKeys.has(name) || name.includes('istio.io/')
    const key = JSON.stringify([
      ref.kind,
      ref.namespace,
      [...own].filter(isLookedAt).toSorted(byKey),
      [...annotations].filter(isLookedAt).toSorted(byKey),
      serviceAccount,
      ports,
      facts.isMember,
    ])
    if (!workloads.has(key)) workloads.set(key, facts)
  }
  for (const pod of objects.of('Pod')) {
    const phase = fieldsOf(pod['status'])?.['phase']
    if (phase !== 'Succeeded' && phase !== 'Failed') add(podRef(pod), pod)
  }
  for (const kind of TEMPLATE_KINDS)
    for (const object of objects.of(kind)) {
      const spec = fieldsOf(object.spec) ?? {}
      const outer = kind === 'CronJob' ? fieldsOf(fieldsOf(spec['jobTemplate'])?.['spec']) : spec
      const template = fieldsOf(outer?.['template'])
      if (template !== undefined) add(refOf(kind, object), template)
    }
  return [...workloads.values()]
}

const byKey = ([one]: readonly [string, string], [other]: readonly [string, string]): number =>
  one < other ? -1 : 1

/** A pod by whom it belongs to: pods of one Deployment are one workload. */
function podRef(pod: RawObject): ObjectRef {
  const ref = refOf('Pod', pod)
  const metadata = fieldsOf(pod.metadata) ?? {}
  const controller = mapsOf(metadata['ownerReferences']).find(
    ({ controller }) => controller === true,
  )
  if (controller === undefined) return ref
  const owner = { kind: textOf(controller['kind']), name: textOf(controller['name']) }
  const { workloadType, workloadName } = ownerOf(
    ref.name,
    owner,
    textsOf(metadata['labels']).get(HASH_LABEL) ?? '',
  )
  if (workloadType === 'deployment') return { ...ref, kind: 'Deployment', name: workloadName }
  return { ...ref, kind: owner.kind, name: owner.name }
}

function factsOf(
  ref: ObjectRef,
  template: RawObject,
  namespaceLabels: ReadonlyMap<string, string> | undefined,
  systemNamespace: string,
): WorkloadFacts {
  const metadata = fieldsOf(template.metadata) ?? {}
  const spec = fieldsOf(template.spec) ?? {}
  const labels = textsOf(metadata['labels'])
  const annotations = textsOf(metadata['annotations'])
  // What eligibility reads of a pod, and nothing else; of the right types, whatever stands there.
  const pod: Pod = {
    metadata: {
      namespace: ref.namespace,
      labels: Object.fromEntries(labels),
      annotations: Object.fromEntries(annotations),
    },
    spec: {
      containers: [],
      hostNetwork: spec['hostNetwork'] === true,
      runtimeClassName: textOf(spec['runtimeClassName']),
    },
  }
  const containers = [...mapsOf(spec['containers']), ...mapsOf(spec['initContainers'])]
  return {
    ...ref,
    labels,
    annotations,
    serviceAccount: textOf(spec['serviceAccountName']) || 'default',
    ports: containers.flatMap(({ ports }) =>
      mapsOf(ports).flatMap(({ name, containerPort, protocol }) =>
        typeof containerPort === 'number'
          ? [{ name: textOf(name), port: containerPort, protocol: textOf(protocol) || 'TCP' }]
          : [],
      ),
    ),
    isMember:
      namespaceLabels === undefined
        ? undefined
        : eligibility(pod, Object.fromEntries(namespaceLabels), {
            excludeNamespaces: NEVER_ENROLLED_NAMESPACES,
            systemNamespace,
          }).enrol,
  }
}

/** The labels that selectors of Services and of Istio's policies name. */
export function selectedLabels(objects: Objects): ReadonlySet<string> {
  const keys = new Set<string>()
  for (const kind of ['Service', 'AuthorizationPolicy', 'PeerAuthentication'] as const)
    for (const { spec } of objects.of(kind)) {
      const selector = fieldsOf(fieldsOf(spec)?.['selector'])
      const labels = kind === 'Service' ? selector : fieldsOf(selector?.['matchLabels'])
      for (const key of Object.keys(labels ?? {})) keys.add(key)
    }
  return keys
}
