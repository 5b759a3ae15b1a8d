// SPDX-License-Identifier: Apache-2.0
// Kubernetes objects as the API server gives them, and a translator that keeps what it gave out.

import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { MeshChange, Service, Workload, WorkloadUid } from '../../mesh/model/types.ts'
import type { MeshSecret } from '../../controller/core/config.ts'
import type { InputKind, InputObjects } from '../../controller/core/input.ts'
import { followMesh } from '../../controller/core/mesh-changes.ts'
import { objectKey, podKey } from '../../controller/core/origin.ts'
import { translate } from '../../controller/core/translator.ts'
import type { RouteStatus } from '../../controller/status/route-status.ts'
import type { ObjectProblem } from '../../controller/reading/object-reader.ts'
import { ObjectSources } from '../../controller/sources/object-sources.ts'
import { Graph, type Source } from '../../mesh/collections/index.ts'
import { podUid, serviceKey } from '../model/samples.ts'

export const ORIGIN = { cluster: 'Kubernetes', clusterDomain: 'cluster.local' }
export const CONFIG = {
  trustDomain: 'cluster.local',
  trustDomainAliases: [] as readonly string[],
  rootNamespace: 'istio-system',
  network: '',
}

/** Those of the objects here: they are known before what is in them, as a rule. */
const NAMESPACES = ['shop', 'bank', 'other', 'front', 'istio-system']

type Pod = InputObjects['Pod']
type KubeService = InputObjects['Service']
type EndpointSlice = InputObjects['EndpointSlice']

export interface PodChoices {
  readonly namespace?: string
  readonly labels?: Record<string, string>
  readonly annotations?: Record<string, string>
  readonly uid?: string
  readonly deletionTimestamp?: string
  readonly owner?: { readonly kind: string; readonly name: string }
  readonly spec?: Partial<NonNullable<Pod['spec']>>
  readonly status?: NonNullable<Pod['status']>
}

/** A ready pod on node-a with one container on port 8080, named http. */
export function kubePod(name: string, choices: PodChoices = {}): Pod {
  const { owner } = choices
  return {
    metadata: {
      name,
      namespace: choices.namespace ?? 'shop',
      uid: choices.uid ?? `uid-${name}`,
      labels: choices.labels ?? { app: 'catalog' },
      annotations: choices.annotations ?? {},
      ...(choices.deletionTimestamp === undefined
        ? {}
        : { deletionTimestamp: choices.deletionTimestamp }),
      ...(owner === undefined
        ? {}
        : {
            ownerReferences: [{ ...owner, apiVersion: 'apps/v1', uid: 'owner', controller: true }],
          }),
    },
    spec: {
      nodeName: 'node-a',
      serviceAccountName: 'catalog',
      containers: [{ name: 'main', ports: [{ name: 'http', containerPort: 8080 }] }],
      ...choices.spec,
    },
    status: choices.status ?? {
      phase: 'Running',
      podIP: '10.244.0.1',
      podIPs: [{ ip: '10.244.0.1' }],
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  }
}

export function kubeService(
  name: string,
  spec: NonNullable<KubeService['spec']> = {},
  metadata: NonNullable<KubeService['metadata']> = {},
): KubeService {
  return {
    metadata: { name, namespace: 'shop', ...metadata },
    spec: {
      clusterIP: '10.96.0.50',
      clusterIPs: ['10.96.0.50'],
      ipFamilies: ['IPv4'],
      selector: { app: 'catalog' },
      ports: [{ name: 'http', port: 80, targetPort: 8080, protocol: 'TCP' }],
      ...spec,
    },
  }
}

export function kubeSlice(
  name: string,
  service: string,
  endpoints: NonNullable<EndpointSlice['endpoints']>,
  ports: NonNullable<EndpointSlice['ports']> = [{ name: 'http', port: 9090, protocol: 'TCP' }],
): EndpointSlice {
  return {
    metadata: { name, namespace: 'shop', labels: { 'kubernetes.io/service-name': service } },
    addressType: 'IPv4',
    endpoints,
    ports,
  }
}

/** What the endpoint slice controller lists of a pod. */
export function endpointOf(
  pod: Pod,
  conditions: {
    readonly ready?: boolean
    readonly serving?: boolean
    readonly terminating?: boolean
  } = {
    ready: true,
    serving: true,
    terminating: false,
  },
): NonNullable<EndpointSlice['endpoints']>[number] {
  const { name = '', namespace = '', uid = '' } = pod.metadata ?? {}
  return {
    addresses: [pod.status?.podIPs?.[0]?.ip ?? ''],
    conditions,
    targetRef: { kind: 'Pod', name, namespace, uid },
    ...(pod.spec?.nodeName === undefined ? {} : { nodeName: pod.spec.nodeName }),
  }
}

/** A ready pod at these addresses. */
export function running(...addresses: readonly string[]): NonNullable<Pod['status']> {
  return {
    phase: 'Running',
    podIPs: addresses.map((ip) => ({ ip })),
    conditions: [{ type: 'Ready', status: 'True' }],
  }
}

/** What the mesh's authority would bring. */
export function testSecrets(graph: Graph): Source<MeshSecret, string> {
  const secrets = graph.source<MeshSecret, string>('secrets')
  secrets.set('sessions', 'a secret')
  secrets.complete()
  return secrets
}

/** A translator with everything it said, and the state that follows from it. */
export function startTranslator() {
  const problems: ObjectProblem[] = []
  const batches: (readonly MeshChange[])[] = []
  const state = new MeshState()
  const graph = new Graph({
    onFault: ({ error }) => {
      throw error
    },
  })
  const sources = new ObjectSources(graph, {
    onProblems: (found) => void problems.push(...found),
  })
  const secrets = testSecrets(graph)
  const mesh = translate(graph, sources.collections, CONFIG, secrets)
  const lost = new Map<string, readonly ObjectProblem[]>()
  mesh.lostClaims.subscribe((changes) => {
    for (const { key, current } of changes)
      if (current === undefined) lost.delete(key)
      else lost.set(key, current.problems)
  })
  const crowds = new Map<string, string>()
  mesh.crowds.subscribe((changes) => {
    for (const { key, current } of changes)
      if (current === undefined) crowds.delete(key)
      else {
        const { kind, namespace, name, field, reason } = current
        crowds.set(key, `${kind} ${namespace}/${name} ${field}: ${reason}`)
      }
  })
  for (const name of NAMESPACES)
    sources.put('Namespace', sources.read('Namespace', { metadata: { name } }, ORIGIN))
  followMesh(graph, mesh, (changes) => {
    batches.push(changes)
    state.apply(changes)
  })
  const translator = {
    upsert: <K extends InputKind>(kind: K, object: InputObjects[K]): void =>
      sources.put(kind, sources.read(kind, object, ORIGIN)),
    delete: (kind: InputKind, namespace: string, name: string): void => {
      const isNamespaced = !['Node', 'Namespace', 'GatewayClass'].includes(kind)
      const keyOf = kind === 'Pod' ? podKey : objectKey
      sources.remove(kind, keyOf(ORIGIN.cluster, isNamespaced ? namespace : '', name))
    },
    complete: (): void => graph.batch(() => sources.complete()),
  }
  return {
    translator,
    mesh,
    secrets,
    state,
    problems,
    /** What Services claim and do not get, in words. */
    lost: (): string[] =>
      [...lost.values()]
        .flat()
        .map(({ namespace, name, field, reason }) =>
          [`${namespace}/${name}`, `${field}:`, reason].join(' '),
        ),
    crowds: (): string[] => [...crowds.values()],
    /** How policy objects of this name were taken, each in words. */
    statuses: (name: string): string[] =>
      mesh.policyStatuses
        .flatMap((each) => [...each.values()])
        .filter((each) => `${each.namespace}/${each.name}` === name)
        .map(({ accepted: { type, status, reason, message } }) =>
          [type, status, reason, message].join(' '),
        ),
    /** What is to be said of routes of this name, in the order of their kinds. */
    routeStatuses: (name: string): RouteStatus[] =>
      mesh.routeStatuses
        .flatMap((each) => [...each.values()])
        .filter((each) => `${each.namespace}/${each.name}` === name),
    batches,
    pod: (name: string): Workload | undefined => state.workload(podUid('shop', name)),
    service: (name: string): Service | undefined => state.service(serviceKey('shop', name)),
    workloadNames: (): string[] => [...state.workloads()].map((each) => each.name).sort(),
  }
}

/** What a state holds, in an order that does not depend on how it came about. */
export function snapshot(state: MeshState): {
  readonly workloads: ReadonlyMap<WorkloadUid, Workload>
  readonly services: readonly Service[]
} {
  const byKey = <T>(values: Iterable<T>, keyOf: (value: T) => string): T[] =>
    [...values].sort((left, right) => (keyOf(left) < keyOf(right) ? -1 : 1))
  return {
    workloads: new Map(byKey(state.workloads(), ({ uid }) => uid).map((each) => [each.uid, each])),
    services: byKey(state.services(), ({ key }) => key),
  }
}
