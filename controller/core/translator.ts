// SPDX-License-Identifier: Apache-2.0
// Keeps the mesh resources in step with the cluster's objects. Each event changes the facts about one object and
// recomputes only the workloads and services those facts enter into; only what then differs is given out.

import { podWorkloadUid } from '../../mesh/model/names.ts'
import { isDeepStrictEqual } from 'node:util'
import { errorMessage } from '../../mesh/errors.ts'
import { MultiIndex, reindex } from '../../mesh/model/multi-index.ts'
import type {
  Locality,
  MeshChange,
  Service,
  ServiceKey,
  Workload,
  WorkloadUid,
} from '../../mesh/model/types.ts'
import type { TranslateConfig } from './config.ts'
import { FactTable } from './fact-table.ts'
import type { InputKind, InputObjects, TranslatorInput } from './input.ts'
import { NOWHERE, readNamespace, readNode } from './node-facts.ts'
import { type PodFacts, type Reading, readPod } from './pod-facts.ts'
import type { ObjectProblem } from './problem.ts'
import { readService, type ServiceFacts } from './service-facts.ts'
import { readEndpointSlice, type SliceFacts } from './slice-facts.ts'
import {
  selects,
  serviceKey,
  serviceOf,
  type SliceMembership,
  workloadOfEndpoint,
  workloadOfPod,
} from './to-model.ts'
import type { TrafficDistribution } from './traffic-distribution.ts'

export interface MeshTranslatorOptions {
  readonly config: TranslateConfig
  /** Called after each event that changed something; the first call, at complete(), carries everything. */
  readonly onChanges: (changes: readonly MeshChange[]) => void
  /** Called with each flawed object, each time it arrives. */
  readonly onProblems: (problems: readonly ObjectProblem[]) => void
}

const NONE: readonly never[] = []
/** Nodes and namespaces have no namespace. */
const CLUSTER = ''

/** Turns Kubernetes events into changes of the mesh. */
export class MeshTranslator implements TranslatorInput {
  readonly #options: MeshTranslatorOptions
  readonly #pods = new FactTable<PodFacts>()
  readonly #services = new FactTable<ServiceFacts>()
  readonly #slices = new FactTable<SliceFacts>()
  readonly #localities = new FactTable<Locality>()
  readonly #distributions = new FactTable<TrafficDistribution>()
  readonly #podsByNode = new MultiIndex<string, PodFacts>()
  readonly #slicesByNode = new MultiIndex<string, SliceFacts>()
  readonly #slicesByService = new MultiIndex<string, SliceFacts>()
  readonly #slicesByPod = new MultiIndex<string, SliceFacts>()
  /** What was given out last. */
  readonly #workloads = new Map<WorkloadUid, Workload>()
  readonly #meshServices = new Map<ServiceKey, Service>()
  readonly #endpointUids = new Map<string, readonly WorkloadUid[]>()
  #changes: MeshChange[] = []
  #isComplete = false

  constructor(options: MeshTranslatorOptions) {
    this.#options = options
  }

  upsert<K extends InputKind>(kind: K, object: InputObjects[K]): void {
    // Watches deliver what servers send; null is not an object whatever the type says.
    const metadata = (object as InputObjects[K] | null)?.metadata
    const { name } = metadata ?? {}
    const namespace = isNamespaced(kind) ? metadata?.namespace : CLUSTER
    if (typeof name !== 'string' || name === '' || typeof namespace !== 'string') {
      const reason = 'has no name or namespace'
      this.#options.onProblems([
        { kind, namespace: '', name: String(name ?? ''), field: 'metadata', reason },
      ])
      return
    }
    this.#setGuarded(kind, namespace, name, object)
  }

  delete(kind: InputKind, namespace: string, name: string): void {
    this.#setGuarded(kind, isNamespaced(kind) ? namespace : CLUSTER, name, undefined)
  }

  complete(): void {
    if (this.#isComplete) return
    this.#isComplete = true
    for (const service of this.#services.all())
      this.#computeService(service.namespace, service.name)
    for (const pod of this.#pods.all()) this.#computePod(pod.namespace, pod.name)
    for (const slice of this.#slices.all()) this.#computeSlice(slice.namespace, slice.name)
    this.#giveOut()
  }

  /** One object's fault must not stop the others' events. */
  #setGuarded(
    kind: InputKind,
    namespace: string,
    name: string,
    object: InputObjects[InputKind] | undefined,
  ): void {
    try {
      const problems = this.#set(kind, namespace, name, object)
      if (problems.length > 0) this.#options.onProblems(problems)
    } catch (thrown) {
      const reason = `cannot be read: ${errorMessage(thrown)}`
      this.#options.onProblems([{ kind, namespace, name, field: '', reason }])
    }
    this.#giveOut()
  }

  #set(
    kind: InputKind,
    namespace: string,
    name: string,
    object: InputObjects[InputKind] | undefined,
  ): readonly ObjectProblem[] {
    const read = <T>(reader: (object: never) => Reading<T>): Reading<T> =>
      // The caller's generic signature ties kind and object; the switch below cannot see it.
      object === undefined ? { facts: undefined, problems: NONE } : reader(object as never)
    switch (kind) {
      case 'Pod': {
        const { facts, problems } = read(readPod)
        this.#setPod(namespace, name, facts)
        return problems
      }
      case 'Service': {
        const { facts, problems } = read(readService)
        this.#setService(namespace, name, facts)
        return problems
      }
      case 'EndpointSlice': {
        const { facts, problems } = read(readEndpointSlice)
        this.#setSlice(namespace, name, facts)
        return problems
      }
      case 'Node': {
        const { facts, problems } = read(readNode)
        this.#setNode(name, facts)
        return problems
      }
      case 'Namespace': {
        const { facts, problems } = read(readNamespace)
        this.#setNamespace(name, facts)
        return problems
      }
    }
  }

  #setPod(namespace: string, name: string, next: PodFacts | undefined): void {
    const previous = this.#pods.set(namespace, name, next)
    reindexFacts(this.#podsByNode, previous, next, (pod) => [pod.node])
    this.#computePod(namespace, name)
  }

  #setService(namespace: string, name: string, next: ServiceFacts | undefined): void {
    const previous = this.#services.set(namespace, name, next)
    this.#computeService(namespace, name)
    if (!this.#isComplete) return
    for (const pod of this.#pods.in(namespace)) {
      const isMember =
        (previous !== undefined && selects(previous, pod)) ||
        (next !== undefined && selects(next, pod))
      if (isMember) this.#computePod(namespace, pod.name)
    }
    for (const slice of this.#slicesByService.get(`${namespace}/${name}`))
      this.#computeSliceAndPods(slice)
  }

  #setSlice(namespace: string, name: string, next: SliceFacts | undefined): void {
    const previous = this.#slices.set(namespace, name, next)
    reindexFacts(this.#slicesByService, previous, next, (slice) => [serviceKeyOf(slice)])
    reindexFacts(this.#slicesByPod, previous, next, podKeysOf)
    reindexFacts(this.#slicesByNode, previous, next, (slice) => [
      ...new Set(slice.endpoints.map((endpoint) => endpoint.node)),
    ])
    if (previous !== undefined) this.#computeSliceAndPods(previous)
    if (next !== undefined) this.#computeSliceAndPods(next)
  }

  #setNode(name: string, next: Locality | undefined): void {
    const previous = this.#localities.set(CLUSTER, name, next)
    // Nodes report their state every few seconds; where they stand hardly ever changes.
    if (isDeepStrictEqual(previous, next)) return
    for (const pod of this.#podsByNode.get(name)) this.#computePod(pod.namespace, pod.name)
    for (const slice of this.#slicesByNode.get(name))
      this.#computeSlice(slice.namespace, slice.name)
  }

  #setNamespace(name: string, next: TrafficDistribution | undefined): void {
    if (this.#distributions.set(CLUSTER, name, next) === next) return
    for (const service of this.#services.in(name)) this.#computeService(name, service.name)
  }

  #computeService(namespace: string, name: string): void {
    if (!this.#isComplete) return
    const { config } = this.#options
    const facts = this.#services.get(namespace, name)
    const distribution = this.#distributions.get(CLUSTER, namespace)
    const key = serviceKey(config, namespace, name)
    const next = facts === undefined ? undefined : serviceOf(config, facts, distribution)
    if (isDeepStrictEqual(this.#meshServices.get(key), next)) return
    if (next === undefined) {
      this.#meshServices.delete(key)
      this.#changes.push({ kind: 'serviceRemoved', key })
      return
    }
    this.#meshServices.set(key, next)
    this.#changes.push({ kind: 'service', service: next })
  }

  #computePod(namespace: string, name: string): void {
    if (!this.#isComplete) return
    const { config } = this.#options
    const pod = this.#pods.get(namespace, name)
    this.#setWorkload(
      podWorkloadUid(config.clusterId, { namespace, name }),
      pod === undefined ? undefined : this.#workloadOfPod(pod),
    )
  }

  #workloadOfPod(pod: PodFacts): Workload {
    const selecting: ServiceFacts[] = []
    for (const service of this.#services.in(pod.namespace))
      if (selects(service, pod)) selecting.push(service)
    return workloadOfPod(
      this.#options.config,
      pod,
      this.#locality(pod.node),
      selecting,
      this.#listing(pod),
    )
  }

  /** Services without a selector that list the pod in their slices. */
  #listing(pod: PodFacts): readonly SliceMembership[] {
    const listing = new Map<string, { service: ServiceFacts; ports: Map<string, number> }>()
    for (const slice of this.#slicesByPod.get(`${pod.namespace}/${pod.name}`)) {
      const service = this.#services.get(slice.namespace, slice.serviceName)
      if (service === undefined || service.selector !== undefined) continue
      // An endpoint of this name may still mean the pod's predecessor.
      const isThisPod = slice.endpoints.some(
        ({ pod: target }) =>
          target?.name === pod.name &&
          (target.kubernetesUid === '' || target.kubernetesUid === pod.kubernetesUid),
      )
      if (!isThisPod) continue
      // A dual-stack Service lists the pod in a slice per family, with the same ports.
      const known = listing.get(service.name) ?? { service, ports: new Map<string, number>() }
      for (const [name, port] of slice.ports) known.ports.set(name, port)
      listing.set(service.name, known)
    }
    return [...listing.values()]
  }

  #computeSliceAndPods(slice: SliceFacts): void {
    this.#computeSlice(slice.namespace, slice.name)
    for (const { pod } of slice.endpoints)
      if (pod !== undefined) this.#computePod(slice.namespace, pod.name)
  }

  #computeSlice(namespace: string, name: string): void {
    if (!this.#isComplete) return
    const sliceKey = `${namespace}/${name}`
    const previous = this.#endpointUids.get(sliceKey) ?? NONE
    const workloads = this.#workloadsOfSlice(this.#slices.get(namespace, name))
    for (const uid of previous) if (!workloads.has(uid)) this.#setWorkload(uid, undefined)
    for (const [uid, workload] of workloads) this.#setWorkload(uid, workload)
    if (workloads.size === 0) this.#endpointUids.delete(sliceKey)
    else this.#endpointUids.set(sliceKey, [...workloads.keys()])
  }

  #workloadsOfSlice(slice: SliceFacts | undefined): ReadonlyMap<WorkloadUid, Workload> {
    const workloads = new Map<WorkloadUid, Workload>()
    if (slice === undefined) return workloads
    const service = this.#services.get(slice.namespace, slice.serviceName)
    if (service === undefined) return workloads
    for (const endpoint of slice.endpoints) {
      if (endpoint.pod !== undefined) continue
      const locality = this.#locality(endpoint.node)
      const workload = workloadOfEndpoint(this.#options.config, slice, endpoint, service, locality)
      if (workload !== undefined) workloads.set(workload.uid, workload)
    }
    return workloads
  }

  #locality(node: string): Locality {
    return this.#localities.get(CLUSTER, node) ?? NOWHERE
  }

  #setWorkload(uid: WorkloadUid, next: Workload | undefined): void {
    if (isDeepStrictEqual(this.#workloads.get(uid), next)) return
    if (next === undefined) {
      this.#workloads.delete(uid)
      this.#changes.push({ kind: 'workloadRemoved', uid })
      return
    }
    this.#workloads.set(uid, next)
    this.#changes.push({ kind: 'workload', workload: next })
  }

  #giveOut(): void {
    if (this.#changes.length === 0) return
    const changes = this.#changes
    this.#changes = []
    this.#options.onChanges(changes)
  }
}

function isNamespaced(kind: InputKind): boolean {
  return kind !== 'Node' && kind !== 'Namespace'
}

function serviceKeyOf(slice: SliceFacts): string {
  return `${slice.namespace}/${slice.serviceName}`
}

function podKeysOf(slice: SliceFacts): readonly string[] {
  const names = slice.endpoints.flatMap(({ pod }) => (pod === undefined ? [] : [pod.name]))
  return [...new Set(names)].map((name) => `${slice.namespace}/${name}`)
}

function reindexFacts<T>(
  index: MultiIndex<string, T>,
  previous: T | undefined,
  next: T | undefined,
  keysOf: (facts: T) => readonly string[],
): void {
  reindex(
    index,
    previous === undefined ? undefined : { value: previous, keys: keysOf(previous) },
    next === undefined ? undefined : { value: next, keys: keysOf(next) },
  )
}
