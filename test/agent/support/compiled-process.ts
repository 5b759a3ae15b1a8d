// SPDX-License-Identifier: Apache-2.0
// A program that starts as the agent does, and prints which of its threads have the compiler, and its process id, as JSON.

import { Worker } from 'node:worker_threads'
import { hasCompiler, startCompiled } from '../../../agent/memory/compiled-start.ts'
import { createLogger } from '../../../mesh/telemetry/log.ts'

await startCompiled(createLogger('test', 'debug'))
const modules = ['agent/memory/compiled-start.ts', 'agent/proxy/worker/data-plane-worker.ts']
const [own, workers] = modules.map((file) => new URL(`../../../${file}`, import.meta.url).href)
// The worker's own module wants a parent's orders: without them it fails, having been compiled.
const source = `
  import(${JSON.stringify(workers)}).catch(() => undefined)
    .then(() => import(${JSON.stringify(own)}))
    .then(({ hasCompiler }) => require('node:worker_threads').parentPort.postMessage(hasCompiler()))`
new Worker(source, { eval: true, workerData: {} }).once('message', (worker: boolean) => {
  console.log(JSON.stringify({ pid: process.pid, main: hasCompiler(), worker }))
  process.exit(0)
})
