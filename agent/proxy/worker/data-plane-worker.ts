// SPDX-License-Identifier: Apache-2.0
// Entry of a data-plane worker thread: joins the DataPlane to its message port. Holds no logic.

import { parentPort, workerData } from 'node:worker_threads'
import { HeldMemory } from '../../../mesh/http2/held-memory.ts'
import { levelOf } from '../../../mesh/telemetry/log-levels.ts'
import { createBatchedLogger, createLogger } from '../../../mesh/telemetry/log.ts'
import { trimMalloc } from '../../../native/libc.ts'
import { giveBackHeap } from '../../memory/give-back.ts'
import { createDataPlaneSockets } from '../../capture/data-plane-sockets.ts'
import { ConnectionCounts } from '../connection-counts.ts'
import { DataPlane } from './data-plane.ts'
import type { ToWorker, WorkerStart } from './worker-protocol.ts'

const port = parentPort
if (port === null) throw new Error('data-plane-worker.ts runs as a worker thread only')
// The main thread passes exactly this (WorkerLink); workerData is untyped by nature.
const start = workerData as WorkerStart

const log = createLogger('data-plane', levelOf(start.logLevels, 'data-plane'))
const counts = new ConnectionCounts(start.countTable, start.worker)
const access = createBatchedLogger('access', levelOf(start.logLevels, 'access'))
const dataPlane = new DataPlane({
  sockets: createDataPlaneSockets(start.handles),
  network: start.network,
  sameNode: start.sameNode,
  sameNodeSecurityLabel: start.sameNodeSecurityLabel,
  missingPolicies: start.missingPolicies,
  rootNamespace: start.rootNamespace,
  ...(start.trust && { trust: start.trust }),
  placeLimits: start.placeLimits,
  counts,
  memory: new HeldMemory(start.heldLimitBytes),
  log,
  accessLog: access.log,
  flushAccessLog: access.flush,
  post: (message) => port.postMessage(message),
})
port.on('message', (message: ToWorker) => dataPlane.receive(message))
giveBackHeap({
  collector: globalThis.gc,
  trim: trimMalloc,
  descriptors: () => counts.ownDescriptors,
  log: log.child({ part: 'memory' }),
})
