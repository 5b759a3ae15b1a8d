// SPDX-License-Identifier: Apache-2.0
// The controller's main road: what the sources are told goes through the translator to the discovery server.

import type { MonotonicClock } from '../../mesh/async/bucket.ts'
import type { Server } from '@grpc/grpc-js'
import { Graph } from '../../mesh/collections/index.ts'
import { errorMessage } from '../../mesh/errors.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import { addXdsService, XdsServer, type XdsServerOptions } from '../../mesh/xds/server.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { NODE } from '../../mesh/xds/types/mesh-node.ts'
import type { MeshComponent } from '../auth/component-gate.ts'
import type { TranslateConfig } from '../core/config.ts'
import { followMesh } from '../core/mesh-changes.ts'
import { translate } from '../core/translator.ts'
import type { ObjectProblem } from '../reading/object-reader.ts'
import { ObjectSources } from '../sources/object-sources.ts'
import { addressResources, nodeResources, policyResources } from './mesh-resources.ts'
import { StatusBoard } from '../status/status-board.ts'
import { visibleTo } from './visibility.ts'

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
  /** What policy objects' statuses are to say. */
  readonly statuses: StatusBoard
  /** All first lists are in the sources: from now on clients are answered. */
  readonly complete: () => void
  readonly stop: () => void
}

/** Adds discovery to the server. Clients may connect at once; they are answered after `complete()`. */
export function startDiscovery(options: DiscoveryOptions): Discovery {
  const { grpcServer, config, authenticate, logger } = options
  const xds = new XdsServer({ logger, authenticate })
  // In this order: who has a Service's node ports has the nodes, and who has a workload has its policies.
  const nodes = xds.offer(NODE, visibleTo(NODE))
  const policies = xds.offer(AUTHORIZATION, visibleTo(AUTHORIZATION), {
    namedBy: ADDRESS,
    onProgress: () => statuses.poke(),
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
  const mesh = translate(graph, sources.collections, config)
  const statuses = new StatusBoard({
    statuses: mesh.policyStatuses,
    workloads: mesh.workloads,
    agents: () => policies.clients(),
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
      policies: policyResources(changes),
      addresses: addressResources(changes),
    }
    nodes.update(changed.nodes.upserts, changed.nodes.removed)
    policies.update(changed.policies.upserts, changed.policies.removed)
    addresses.update(changed.addresses.upserts, changed.addresses.removed)
  })
  addXdsService(grpcServer, xds)
  return {
    sources,
    xds,
    statuses,
    complete: () => {
      graph.batch(() => sources.complete())
      nodes.complete()
      policies.complete()
      addresses.complete()
    },
    stop: () => xds.stop(),
  }
}
