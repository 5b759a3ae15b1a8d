// SPDX-License-Identifier: Apache-2.0
// Entry of a data-plane worker thread: joins the DataPlane to its message port. Holds no logic.

import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { HeldMemory } from '../../../mesh/http2/held-memory.ts'
import { Batches } from '../../../mesh/telemetry/otlp/batches.ts'
import type { LogLine } from '../../../mesh/telemetry/otlp/encode-logs.ts'
import { levelOf } from '../../../mesh/telemetry/log-levels.ts'
import { chooseEngine } from '../../../mesh/relay/choose-engine.ts'
import { createBatchedLogger, createLeveledLogger } from '../../../mesh/telemetry/log.ts'
import { trimMalloc } from '../../../native/libc.ts'
import { loadSocketAddon } from '../../../native/socket-addon.ts'
import { giveBackHeap } from '../../../mesh/program/memory/give-back.ts'
import { createDataPlaneSockets } from '../../capture/data-plane-sockets.ts'
import { AccessLog } from '../access-log.ts'
import { ConnectionCounts } from '../connection-counts.ts'
import { DataPlane } from './data-plane.ts'
import type { FromWorker, ToWorker, WorkerStart } from './worker-protocol.ts'

/** In the main thread the file is loaded to be compiled, and does nothing (agent/memory/compiled-start.ts). */
if (parentPort !== null) await serve(parentPort)

async function serve(port: MessagePort): Promise<void> {
  // The main thread passes exactly this (WorkerLink); workerData is untyped by nature.
  const start = workerData as WorkerStart

  const { log, levels } = createLeveledLogger('data-plane', start.logLevels.level, start.logFormat)
  const counts = new ConnectionCounts(start.countTable, start.worker)
  const access = createBatchedLogger('access', levelOf(start.logLevels, 'access'), start.logFormat)
  levels.follow(access.log)
  levels.set(start.logLevels)
  const post = (message: FromWorker): void => port.postMessage(message)
  const exported = await exportedLines(start, post)
  const accessLog = new AccessLog({ log: access.log, exported })
  accessLog.set(start.accessSpec)
  const engine = chooseEngine(loadSocketAddon, log)
  const dataPlane = new DataPlane({
    engine,
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
    levels,
    accessLog,
    flushAccessLog: () => {
      access.flush()
      exported?.flush()
    },
    post,
  })
  port.on('message', (message: ToWorker) => dataPlane.receive(message))
  giveBackHeap({
    collector: globalThis.gc,
    trim: trimMalloc,
    descriptors: () => counts.ownDescriptors,
    log: log.child({ part: 'memory' }),
  })
}

/** Undefined where access lines are not exported: only then is the code for it loaded. */
async function exportedLines(
  { exportAs: resource }: WorkerStart,
  post: (message: FromWorker) => void,
): Promise<Batches<LogLine> | undefined> {
  if (resource === undefined) return undefined
  const { encodeLogs } = await import('../../../mesh/telemetry/otlp/encode-logs.ts')
  return new Batches({
    encode: (lines, observedMs) => encodeLogs(resource, lines, observedMs),
    post: (request, leftOut) => post({ kind: 'accessLines', request, leftOut }),
  })
}
