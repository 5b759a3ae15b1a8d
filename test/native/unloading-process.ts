// SPDX-License-Identifier: Apache-2.0
// Has a thread load the engine's addon and end, then makes and drops TLS connections in the main thread, as an agent does that calls the
// controller when a data-plane worker is gone. Prints "alive".

import { once } from 'node:events'
import { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { isMainThread, Worker } from 'node:worker_threads'
import { socketEngine } from '../support/engine.ts'

if (isMainThread) {
  await once(new Worker(new URL(import.meta.url)), 'exit')
  for (let count = 0; count < 3; count += 1) new TLSSocket(new Socket()).destroy()
  global.gc?.()
  console.log('alive')
} else socketEngine()
