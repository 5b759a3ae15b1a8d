// SPDX-License-Identifier: Apache-2.0
// Follows the objects of one cluster: one watch a kind, which keeps of each object what the mesh reads of it.

import {
  AUTHORIZATION_POLICIES,
  BACKEND_TLS_POLICIES,
  CONFIG_MAPS,
  ENDPOINT_SLICES,
  GATEWAY_CLASSES,
  GATEWAYS,
  GRPC_ROUTES,
  HTTP_ROUTES,
  type KubeApi,
  type KubeObject,
  type KubeResource,
  NAMESPACES,
  NETWORK_POLICIES,
  NODES,
  PEER_AUTHENTICATIONS,
  PODS,
  REFERENCE_GRANTS,
  SERVICES,
  TCP_ROUTES,
  TLS_ROUTES,
  watchResource,
} from '../../mesh/kube/index.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { InputFacts, InputKind, InputObjects } from '../core/input.ts'
import { objectKey, type ObjectKey, type Origin } from '../core/origin.ts'
import { DepartingPolicies, isClosing } from './departing-policies.ts'
import { keyOf, type ObjectSources, type ReadObject } from './object-sources.ts'
import { Staleness, type StaleSeconds } from './staleness.ts'

/** An object that is nothing to the mesh or has flaws. Nearly none is or has: of all others the facts alone are kept. */
class Flawed<F> {
  readonly read: ReadObject<F>

  constructor(read: ReadObject<F>) {
    this.read = read
  }
}

const NO_PROBLEMS: readonly never[] = []
/** Namespaces are in none. */
const CLUSTER_SCOPE = ''
/** No server has an object without a name; what one tells of it is a flaw to report and nothing more. */
const NAMELESS = ''

export interface ClusterWatch {
  /** Resolves when all first lists have been told; rejects only if closed before. */
  readonly synced: Promise<void>
  /** How long nothing has been heard of each kind of which that is so. */
  stale(): StaleSeconds
  close(): Promise<void>
}

/** Watches everything that discovery needs of a cluster and puts it into `sources`. */
export function watchCluster(options: {
  readonly api: KubeApi
  readonly origin: Origin
  readonly sources: ObjectSources
  readonly logger: Logger
  /** Where there are to be none. */
  readonly ignoresNetworkPolicies?: boolean
}): ClusterWatch {
  const { api, origin, sources, logger, ignoresNetworkPolicies = false } = options
  const staleness = new Staleness(logger)
  const departing = new DepartingPolicies({
    api,
    isKnown: (namespace) =>
      sources.collections.Namespace.get(objectKey(origin.cluster, CLUSTER_SCOPE, namespace)) !==
      undefined,
    remove: (kind, key) => sources.remove(kind, key),
    logger,
  })
  const remove = (kind: InputKind, key: ObjectKey): void => {
    if (isClosing(kind)) {
      departing.deleted(kind, key)
      return
    }
    sources.remove(kind, key)
    if (kind === 'Namespace') departing.namespaceGone(key.slice(key.lastIndexOf('/') + 1))
  }
  const follow = <K extends InputKind>(
    kind: K,
    resource: KubeResource<InputObjects[K] & KubeObject>,
    isOptional = false,
  ): { readonly synced: Promise<void>; close(): Promise<void> } => {
    type Kept = InputFacts[K] | Flawed<InputFacts[K]>
    const put = (kept: Kept, key: string): void => {
      if (isClosing(kind)) departing.isThere(kind, key as ObjectKey)
      if (kept instanceof Flawed) sources.put(kind, kept.read)
      else sources.put(kind, { key: key as ObjectKey, facts: kept, problems: NO_PROBLEMS })
    }
    return watchResource<InputObjects[K] & KubeObject, Kept>(api, resource, {
      logger,
      isOptional,
      keep: (object) => {
        const read = sources.read(kind, object, origin)
        const { key, facts, problems } = read
        const isPlain = key !== undefined && facts !== undefined && problems.length === 0
        return isPlain ? facts : new Flawed(read)
      },
      keyOf: (object) => {
        const key = keyOf(kind, object, origin.cluster)
        return typeof key === 'string' ? key : NAMELESS
      },
      added: put,
      updated: (_previous, kept, key) => put(kept, key),
      deleted: (_last, key) => {
        if (key !== NAMELESS) remove(kind, key as ObjectKey)
      },
      failed: () => staleness.failed(kind),
      answered: () => staleness.answered(kind),
    })
  }
  const pods = follow('Pod', PODS)
  const tlsPolicies = follow('BackendTLSPolicy', BACKEND_TLS_POLICIES, true)
  const watches = [
    follow('Namespace', NAMESPACES),
    follow('Node', NODES),
    follow('Service', SERVICES),
    pods,
    // Defined by the Gateway API, which a cluster need not have, or get later.
    follow('HTTPRoute', HTTP_ROUTES, true),
    follow('GRPCRoute', GRPC_ROUTES, true),
    follow('TCPRoute', TCP_ROUTES, true),
    follow('TLSRoute', TLS_ROUTES, true),
    follow('ReferenceGrant', REFERENCE_GRANTS, true),
    tlsPolicies,
    // Defined by Istio, or by us; a cluster may have neither, and then has no policies.
    follow('AuthorizationPolicy', AUTHORIZATION_POLICIES, true),
    follow('PeerAuthentication', PEER_AUTHENTICATIONS, true),
    // Defined by the Gateway API, which not every cluster has: then there are no waypoints.
    follow('GatewayClass', GATEWAY_CLASSES, true),
    follow('Gateway', GATEWAYS, true),
    ...(ignoresNetworkPolicies ? [] : [follow('NetworkPolicy', NETWORK_POLICIES)]),
  ]
  // What slices repeat of pods is shared with the pods that are known already.
  const slices = pods.synced.then(() => follow('EndpointSlice', ENDPOINT_SLICES))
  // ConfigMaps may be many and large: nobody asks for them before there is a policy that can name one.
  const { BackendTLSPolicy: named } = sources.collections
  let bundles: ReturnType<typeof follow> | undefined
  const followBundles = (): Promise<void> | undefined => {
    if (bundles === undefined && named.size > 0) {
      bundles = follow('ConfigMap', CONFIG_MAPS)
      bundles.synced.catch(() => undefined)
    }
    return bundles?.synced
  }
  const unsubscribe = named.subscribe(() => void followBundles())
  const synced = Promise.all([
    ...watches.map((watch) => watch.synced),
    slices.then((watch) => watch.synced),
    // A policy that is there must not be taken for one whose authorities are not.
    tlsPolicies.synced.then(followBundles),
  ]).then(() => undefined)
  // Not everybody awaits it.
  synced.catch(() => undefined)
  return {
    synced,
    stale: () => staleness.seconds(),
    close: async () => {
      unsubscribe()
      departing.close()
      const closeSlices = slices.then(
        (watch) => watch.close(),
        // The pods' watch was closed before slices were asked for.
        () => undefined,
      )
      await Promise.all([...watches.map((watch) => watch.close()), closeSlices, bundles?.close()])
    },
  }
}
