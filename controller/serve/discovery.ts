// SPDX-License-Identifier: Apache-2.0
// The controller's main road: what watches tell goes through the translator to the discovery server.

import type { Server } from '@grpc/grpc-js'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL } from '../../mesh/xds/type-urls.ts'
import { addXdsService, XdsServer, type XdsServerOptions } from '../../mesh/xds/server.ts'
import type { TranslateConfig } from '../core/config.ts'
import type { TranslatorInput } from '../core/input.ts'
import type { ObjectProblem } from '../core/problem.ts'
import { MeshTranslator } from '../core/translator.ts'
import { addressResources } from './address-resources.ts'

export interface DiscoveryOptions {
  readonly grpcServer: Server
  readonly config: TranslateConfig
  readonly authenticate: XdsServerOptions['authenticate']
  readonly logger: Logger
  /** Counts or shows flawed objects; they are logged in any case. */
  readonly onProblems?: (problems: readonly ObjectProblem[]) => void
}

export interface Discovery {
  /** Feed it from watches; call complete() when all first lists are in. */
  readonly input: TranslatorInput
  readonly xds: XdsServer
  readonly stop: () => void
}

/** Adds discovery to the server. Clients may connect at once; they are answered after `input.complete()`. */
export function startDiscovery(options: DiscoveryOptions): Discovery {
  const { grpcServer, config, authenticate, logger } = options
  const xds = new XdsServer({ logger, authenticate })
  const translator = new MeshTranslator({
    config,
    onChanges: (changes) => {
      const { upserts, removed } = addressResources(changes)
      xds.update(ADDRESS_TYPE_URL, upserts, removed)
    },
    onProblems: (problems) => {
      logger.warn({ problems }, 'cannot fully use an object')
      options.onProblems?.(problems)
    },
  })
  xds.offer(ADDRESS_TYPE_URL)
  xds.offer(AUTHORIZATION_TYPE_URL)
  addXdsService(grpcServer, xds)
  return {
    input: {
      upsert: (kind, object) => translator.upsert(kind, object),
      delete: (kind, namespace, name) => translator.delete(kind, namespace, name),
      complete: () => {
        translator.complete()
        xds.markComplete(ADDRESS_TYPE_URL)
        // Clients wait for both types before they are ready; there are no policies to offer yet.
        xds.markComplete(AUTHORIZATION_TYPE_URL)
      },
    },
    xds,
    stop: () => xds.stop(),
  }
}
