// SPDX-License-Identifier: Apache-2.0
// Where Kubernetes objects enter the controller: each is read once, and what is kept of it lies in one source a kind,
// whatever cluster it came from.

import { type Graph, isEqual, type Source } from '../../mesh/collections/index.ts'
import { errorMessage } from '../../mesh/errors.ts'
import type { InputFacts, InputKind, InputObjects, ObjectCollections } from '../core/input.ts'
import { readBackendTlsPolicy } from '../gateway-api/backend-tls-policy.ts'
import { type CaBundleFacts, readCaBundle } from '../gateway-api/ca-bundle.ts'
import { readGateway } from '../gateway-api/gateway.ts'
import { readGatewayClass } from '../gateway-api/gateway-class.ts'
import { readAuthorizationPolicy } from '../istio-api/authorization-policy.ts'
import { readPeerAuthentication } from '../istio-api/peer-authentication.ts'
import { readNetworkPolicy } from '../network-policy/network-policy.ts'
import { readTcpRoute, readTlsRoute } from '../gateway-api/connection-routes.ts'
import { readGrpcRoute } from '../gateway-api/grpc-route.ts'
import { readHttpRoute } from '../gateway-api/http-route.ts'
import { readReferenceGrant } from '../gateway-api/reference-grant.ts'
import { readNamespace, readNode } from '../core/node.ts'
import { objectKey, podKey, type ObjectKey, type Origin } from '../core/origin.ts'
import { type PodFacts, type PodTemplate, readPod } from '../core/pod.ts'
import { readService } from '../core/service.ts'
import { readEndpointSlice, type SliceFacts } from '../core/slice.ts'
import type { ObjectProblem, Reading } from '../reading/object-reader.ts'
import { SharedMaps, SharedTexts } from '../reading/sharing.ts'

const NO_PROBLEMS: readonly never[] = []

const READERS: {
  readonly [K in InputKind]: (object: InputObjects[K], origin: Origin) => Reading<InputFacts[K]>
} = {
  Pod: readPod,
  Service: readService,
  EndpointSlice: readEndpointSlice,
  Node: readNode,
  Namespace: readNamespace,
  HTTPRoute: readHttpRoute,
  GRPCRoute: readGrpcRoute,
  TCPRoute: readTcpRoute,
  TLSRoute: readTlsRoute,
  ReferenceGrant: readReferenceGrant,
  BackendTLSPolicy: readBackendTlsPolicy,
  ConfigMap: readCaBundle,
  AuthorizationPolicy: readAuthorizationPolicy,
  PeerAuthentication: readPeerAuthentication,
  NetworkPolicy: readNetworkPolicy,
  GatewayClass: readGatewayClass,
  Gateway: readGateway,
}

const CLUSTER_SCOPED: ReadonlySet<InputKind> = new Set(['Node', 'Namespace', 'GatewayClass'])

/** What is left of an object once it is read. */
export interface ReadObject<F> extends Reading<F> {
  /** Undefined when the object has no name to know it by. */
  readonly key: ObjectKey | undefined
}

type Sources = { readonly [K in InputKind]: Source<ObjectKey, InputFacts[K]> }

export interface ObjectSourcesOptions {
  /** Called with each flawed object, each time it arrives. */
  readonly onProblems: (problems: readonly ObjectProblem[]) => void
}

/** The sources of all kinds. */
export class ObjectSources {
  readonly #sources: Sources
  readonly #options: ObjectSourcesOptions
  readonly #texts = new SharedTexts()
  readonly #labels = new SharedMaps<string, string>((value) => value)
  readonly #templates = new WeakMap<PodTemplate['labels'], PodTemplate>()

  constructor(graph: Graph, options: ObjectSourcesOptions) {
    this.#options = options
    this.#sources = {
      Pod: graph.source('pods'),
      Service: graph.source('services'),
      EndpointSlice: graph.source('endpoint slices'),
      Node: graph.source('nodes'),
      Namespace: graph.source('namespaces'),
      HTTPRoute: graph.source('HTTPRoutes'),
      GRPCRoute: graph.source('GRPCRoutes'),
      TCPRoute: graph.source('TCPRoutes'),
      TLSRoute: graph.source('TLSRoutes'),
      ReferenceGrant: graph.source('reference grants'),
      BackendTLSPolicy: graph.source('backend TLS policies'),
      ConfigMap: graph.source('bundles of authorities'),
      AuthorizationPolicy: graph.source('authorization policy objects'),
      PeerAuthentication: graph.source('peer authentications'),
      NetworkPolicy: graph.source('network policy objects'),
      GatewayClass: graph.source('gateway classes'),
      Gateway: graph.source('gateways'),
    }
  }

  get collections(): ObjectCollections {
    return this.#sources
  }

  /** Reads an object. It never throws: one object's fault must not stop the others' events. */
  read<K extends InputKind>(
    kind: K,
    object: InputObjects[K],
    origin: Origin,
  ): ReadObject<InputFacts[K]> {
    const key = keyOf(kind, object, origin.cluster)
    if (typeof key !== 'string') return { key: undefined, facts: undefined, problems: [key] }
    try {
      const { facts, problems } = READERS[kind](object, origin)
      return {
        key,
        facts: facts === undefined ? undefined : this.#compact(kind, facts),
        // A watch keeps what is read here, so an empty list would be kept for each object.
        problems: problems.length === 0 ? NO_PROBLEMS : problems,
      }
    } catch (thrown) {
      const reason = `cannot be read: ${errorMessage(thrown)}`
      const { namespace = '', name = '' } = object.metadata ?? {}
      const problem = { kind, namespace, name, field: '', reason }
      return { key, facts: undefined, problems: [problem] }
    }
  }

  /** There are as many pods as in all clusters: what they have in common is kept once. */
  #compact<K extends InputKind>(kind: K, facts: InputFacts[K]): InputFacts[K] {
    // The kind says what the facts are; the compiler does not tie the two.
    if (kind === 'EndpointSlice') return this.#compactSlice(facts as SliceFacts) as InputFacts[K]
    if (kind === 'ConfigMap') {
      const bundle = facts as CaBundleFacts
      // One and the same lies in each namespace.
      return { ...bundle, pem: this.#texts.share(bundle.pem) } as InputFacts[K]
    }
    if (kind !== 'Pod') return facts
    const pod = facts as PodFacts
    return {
      ...pod,
      node: this.#texts.share(pod.node),
      template: this.#sharedTemplate(pod.template),
    } as InputFacts[K]
  }

  /** Pods of one template have the same labels: the last template with these labels is the one to look at. */
  #sharedTemplate(template: PodTemplate): PodTemplate {
    const labels = this.#labels.share(template.labels)
    const known = this.#templates.get(labels)
    if (known !== undefined && isEqual(known, template)) return known
    const compact = {
      ...template,
      namespace: this.#texts.share(template.namespace),
      serviceAccount: this.#texts.share(template.serviceAccount),
      canonicalName: this.#texts.share(template.canonicalName),
      canonicalRevision: this.#texts.share(template.canonicalRevision),
      workloadName: this.#texts.share(template.workloadName),
      labels,
    }
    this.#templates.set(labels, compact)
    return compact
  }

  /** A slice has an endpoint for each pod of its Service, and repeats what the pod says of itself: that is kept once. */
  #compactSlice(slice: SliceFacts): SliceFacts {
    const { cluster, namespace } = slice
    return {
      ...slice,
      endpoints: slice.endpoints.map((endpoint) => {
        const { address, podName, podUid } = endpoint
        const pod =
          podName === undefined
            ? undefined
            : this.#sources.Pod.get(podKey(cluster, namespace, podName))
        const isSame = pod?.kubernetesUid === podUid
        return {
          ...endpoint,
          address: (isSame ? pod.addresses.find((each) => each === address) : undefined) ?? address,
          node: this.#texts.share(endpoint.node),
          zone: this.#texts.share(endpoint.zone),
          podName: isSame ? pod.name : podName,
          podUid: isSame ? pod.kubernetesUid : podUid,
        }
      }),
    }
  }

  /** An object is there, new or changed. */
  put<K extends InputKind>(kind: K, { key, facts, problems }: ReadObject<InputFacts[K]>): void {
    if (problems.length > 0) this.#options.onProblems(problems)
    if (key === undefined) return
    const source: Source<ObjectKey, InputFacts[K]> = this.#sources[kind]
    if (facts === undefined) source.delete(key)
    else source.set(key, facts)
  }

  /** An object is gone. */
  remove(kind: InputKind, key: ObjectKey): void {
    this.#sources[kind].delete(key)
  }

  /** All clusters have told all that existed. */
  complete(): void {
    for (const source of Object.values(this.#sources)) source.complete()
  }
}

/** The key of an object, or what is wrong with its name. */
export function keyOf<K extends InputKind>(
  kind: K,
  object: InputObjects[K],
  cluster: string,
): ObjectKey | ObjectProblem {
  // Watches deliver what servers send; null is not an object whatever the type says.
  const metadata = (object as InputObjects[K] | null)?.metadata
  const { name } = metadata ?? {}
  const isNamespaced = !CLUSTER_SCOPED.has(kind)
  const namespace = isNamespaced ? metadata?.namespace : ''
  if (typeof name === 'string' && name !== '' && typeof namespace === 'string')
    return kind === 'Pod' ? podKey(cluster, namespace, name) : objectKey(cluster, namespace, name)
  const reason = 'has no name or namespace'
  return {
    kind,
    namespace: '',
    name: typeof name === 'string' ? name : '',
    field: 'metadata',
    reason,
  }
}
