// SPDX-License-Identifier: Apache-2.0
// The controller's main road: what the sources are told goes through the translator to the discovery server.

import type { MonotonicClock } from '../../mesh/async/bucket.ts'
import type { Server } from '@grpc/grpc-js'
import { Graph } from '../../mesh/collections/index.ts'
import { errorMessage } from '../../mesh/errors.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import { MAX_EXPLICIT_NAMES } from '../../mesh/xds/client-view.ts'
import { addXdsService, XdsServer, type XdsServerOptions } from '../../mesh/xds/server.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { BACKEND_TLS } from '../../mesh/xds/types/backend-tls.ts'
import { HTTP_ROUTES } from '../../mesh/xds/types/http-routes.ts'
import { NODE } from '../../mesh/xds/types/mesh-node.ts'
import { NETWORK } from '../../mesh/xds/types/network-policy.ts'
import { WAYPOINT_POLICIES } from '../../mesh/xds/types/waypoint-policy.ts'
import type { MeshComponent } from '../auth/component-gate.ts'
import type { MeshSecret, TranslateConfig } from '../core/config.ts'
import { followMesh } from '../core/mesh-changes.ts'
import { type MeshCollections, translate } from '../core/translator.ts'
import { GatewayStatuses } from '../gateway-api/gateway-statuses.ts'
import { Outcomes } from '../provisioner/outcomes.ts'
import type { ObjectProblem } from '../reading/object-reader.ts'
import { ObjectSources } from '../sources/object-sources.ts'
import {
  addressResources,
  backendTlsResources,
  httpRouteResources,
  networkPolicyResources,
  nodeResources,
  policyResources,
  waypointPolicyResources,
} from './mesh-resources.ts'
import { BackendTlsBoard } from '../status/backend-tls-board.ts'
import { RouteBoard } from '../status/route-board.ts'
import { HeardReports } from '../status/acknowledgements/heard-reports.ts'
import { type Report, shareOf, withReported } from '../status/acknowledgements/report.ts'
import { agentsByNode, gatewayOf, waypointsByGateway } from '../status/enforcement.ts'
import { StatusBoard } from '../status/status-board.ts'
import type { StatusSource } from '../status/wanted-status.ts'
import { sharesOf, visibleTo } from './visibility.ts'
import { WaypointAudience } from './waypoint-audience.ts'

/** That a waypoint may ask for one by one: it does not. */
const NAMES_OF_WAYPOINT = 100
/** Lines about flawed objects: anybody who may write one can write it again and again. */
const FLAWED_LINES = { burst: 100, perSecond: 10 }

export interface DiscoveryOptions {
  readonly grpcServer: Server
  readonly config: TranslateConfig
  readonly authenticate: XdsServerOptions<MeshComponent>['authenticate']
  readonly logger: Logger
  /** Counts or shows flawed objects; they are logged in any case. */
  readonly onProblems?: (problems: readonly ObjectProblem[]) => void
  /** For the budget of lines; tests pass their own. */
  readonly now?: MonotonicClock
}

export interface Discovery {
  /** To be filled by watches. */
  readonly sources: ObjectSources
  readonly xds: XdsServer<MeshComponent>
  readonly mesh: MeshCollections
  /** To be told what became of the waypoints that this replica makes. */
  readonly outcomes: Outcomes
  /** What objects' statuses are to say. */
  readonly statuses: readonly StatusSource[]
  /** What agents and waypoints have acknowledged: of this replica's to be told to the others, and to be told of theirs. */
  readonly acknowledgements: {
    readonly report: () => Report
    readonly onChange: (listener: () => void) => () => void
    readonly heard: HeardReports
  }
  /** From the first call on, before `complete()`; another value ends what the one before has sealed. */
  readonly setSecret: (secret: MeshSecret, value: string) => void
  /** All first lists are in the sources: from now on clients are answered. */
  readonly complete: () => void
  readonly stop: () => void
}

/** Adds discovery to the server. Clients may connect at once; they are answered after `complete()`. */
export function startDiscovery(options: DiscoveryOptions): Discovery {
  const { grpcServer, config, authenticate, logger } = options
  const xds = new XdsServer({
    logger,
    authenticate,
    // Whoever may make pods in a namespace can have any number that speak for a waypoint of it, and never take in what they are told.
    ownerOf: (caller) => (caller.role === 'agent' ? caller.name : caller.namespace),
    // Agents may be Istio's, which can ask for addresses one by one; waypoints are told all that they may see.
    maxNamesOf: ({ role }) => (role === 'agent' ? MAX_EXPLICIT_NAMES : NAMES_OF_WAYPOINT),
  })
  // In this order: who has a Service's node ports has the nodes, and who has a workload has its policies.
  const nodes = xds.offer(NODE, visibleTo(NODE))
  const networkPolicies = xds.offer(NETWORK, visibleTo(NETWORK), { namedBy: ADDRESS })
  const policies = xds.offer(AUTHORIZATION, visibleTo(AUTHORIZATION), {
    namedBy: ADDRESS,
    concernsAll: ({ scope }) => scope !== 'workload',
    onProgress: () => policyStatuses.poke(),
  })
  // A waypoint serves a Service once it is told that it is bound to it: by then it must have what judges and leads calls to it.
  const audience = new WaypointAudience()
  const shares = sharesOf(audience)
  const waypointPolicies = xds.offer(WAYPOINT_POLICIES, visibleTo(WAYPOINT_POLICIES), {
    namedBy: ADDRESS,
    sees: shares.policies,
    onProgress: () => policyStatuses.poke(),
  })
  // Before the routes: who leads to an app knows whether that is spoken to in TLS.
  const backendTls = xds.offer(BACKEND_TLS, visibleTo(BACKEND_TLS), { namedBy: ADDRESS })
  const httpRoutes = xds.offer(HTTP_ROUTES, visibleTo(HTTP_ROUTES), {
    namedBy: ADDRESS,
    sees: shares.routes,
  })
  const addresses = xds.offer(ADDRESS, visibleTo(ADDRESS))
  const flawed = new LogBudget(FLAWED_LINES, options.now)
  const graph = new Graph({
    onFault: ({ collection, key, error }) =>
      logger.error({ error, collection, key }, `cannot translate: ${errorMessage(error)}`),
  })
  const tell = (problems: readonly ObjectProblem[]): void => {
    const keptBack = flawed.take()
    if (keptBack !== undefined) logger.warn({ problems, keptBack }, 'cannot fully use an object')
    options.onProblems?.(problems)
  }
  const sources = new ObjectSources(graph, { onProblems: tell })
  const outcomes = new Outcomes()
  const heard = new HeardReports(() => policyStatuses.poke())
  const secrets = graph.source<MeshSecret, string>('secrets')
  const mesh = translate(graph, sources.collections, config, secrets)
  const policyStatuses = new StatusBoard({
    statuses: mesh.policyStatuses,
    workloads: mesh.workloads,
    agents: () => {
      const others = [...heard.believed()].map(({ agents }) => agents)
      return withReported(agentsByNode(policies.clients()), others, policies.versions)
    },
    waypoints: () => {
      const here = waypointsByGateway(waypointPolicies.clients())
      const others = [...heard.believed()].map(({ waypoints }) => waypoints)
      return withReported(here, others, waypointPolicies.versions)
    },
  })
  mesh.lostClaims.subscribe((changes) => {
    for (const { current } of changes) if (current !== undefined) tell(current.problems)
  })
  mesh.crowds.subscribe((changes) => {
    for (const { current } of changes) if (current !== undefined) tell([current])
  })
  followMesh(graph, mesh, (changes) => {
    const changed = {
      nodes: nodeResources(changes),
      networkPolicies: networkPolicyResources(changes),
      policies: policyResources(changes),
      waypointPolicies: waypointPolicyResources(changes),
      backendTls: backendTlsResources(changes),
      httpRoutes: httpRouteResources(changes),
      addresses: addressResources(changes),
    }
    const reconsidered = audience.apply(changes)
    nodes.update(changed.nodes.upserts, changed.nodes.removed)
    networkPolicies.update(changed.networkPolicies.upserts, changed.networkPolicies.removed)
    policies.update(changed.policies.upserts, changed.policies.removed)
    waypointPolicies.update(changed.waypointPolicies.upserts, changed.waypointPolicies.removed)
    backendTls.update(changed.backendTls.upserts, changed.backendTls.removed)
    httpRoutes.update(changed.httpRoutes.upserts, changed.httpRoutes.removed)
    waypointPolicies.look(reconsidered.policies)
    httpRoutes.look(reconsidered.routes)
    addresses.update(changed.addresses.upserts, changed.addresses.removed)
  })
  addXdsService(grpcServer, xds)
  return {
    sources,
    xds,
    mesh,
    outcomes,
    statuses: [
      policyStatuses,
      new GatewayStatuses(mesh.gatewayStatuses, outcomes),
      new RouteBoard(mesh.routeStatuses),
      new BackendTlsBoard(mesh.backendTlsStatuses),
    ],
    acknowledgements: {
      report: () => ({
        agents: shareOf(policies.versions(), policies.clients(), ({ node }) => node),
        waypoints: shareOf(waypointPolicies.versions(), waypointPolicies.clients(), gatewayOf),
      }),
      onChange: (listener) => policyStatuses.onChange(listener),
      heard,
    },
    setSecret: (secret, value) => secrets.set(secret, value),
    complete: () => {
      graph.batch(() => {
        secrets.complete()
        sources.complete()
      })
      nodes.complete()
      networkPolicies.complete()
      policies.complete()
      waypointPolicies.complete()
      backendTls.complete()
      httpRoutes.complete()
      addresses.complete()
    },
    stop: () => xds.stop(),
  }
}
