// SPDX-License-Identifier: Apache-2.0
// Stands for a data-plane worker in the tests of the pool: a real thread that serves nothing, says in its dump what it
// would serve, dies when it is asked to drain a pod or to serve a deadly listener, and hangs over an endless one.

import { parentPort, threadName } from 'node:worker_threads'
import type { ConnectionDump } from '../../agent/proxy/open-connections.ts'
import type {
  FromWorker,
  ToWorker,
  WorkerRequest,
} from '../../agent/proxy/worker/worker-protocol.ts'
import type { PodUid } from '../../mesh/model/types.ts'

/** An outbound listener that kills the worker which gets it. */
export const DEADLY_LISTENER = 900_013

/** An outbound listener over which its worker turns for ever. */
export const ENDLESS_LISTENER = 900_014

const served = new Map<PodUid, readonly ConnectionDump[]>()
const localPods = new Set<string>()

function answer(request: WorkerRequest): Extract<FromWorker, { kind: 'answer' }>['value'] {
  switch (request.kind) {
    case 'servePod': {
      const [outbound] = request.listeners.outbound
      if (outbound === DEADLY_LISTENER) process.exit(1)
      while (outbound === ENDLESS_LISTENER);
      served.set(request.pod.uid, [
        {
          direction: 'outbound',
          src: threadName ?? '',
          actualDst: `listener ${outbound}`,
          originalDst: [...localPods].sort().join(' '),
          protocol: 'TCP',
        },
      ])
      return undefined
    }
    case 'drainPod':
      return process.exit(1)
    case 'stopPod':
      served.delete(request.uid)
      return { cut: 0 }
    case 'profile':
      return `${request.profile.kind} profile of ${threadName ?? ''}`
    case 'drainAll':
      return { cut: 0 }
    case 'probeCall':
      return { outcome: 'connected', tookMs: 0 }
    case 'dump':
      return served
    case 'forgetLocalPod':
    case 'ping':
      return undefined
  }
}

// The pool's tests import the constant above in the main thread.
parentPort?.on('message', (message: ToWorker) => {
  if (message.kind === 'localPod')
    localPods.add(message.pod.name + (message.lastSaid?.unreadable ?? ''))
  if (message.kind === 'formerly')
    for (const [, { name }] of message.memory.workloads) localPods.add(`(${name}, gone)`)
  if (message.kind !== 'request') return
  const reply: FromWorker = { kind: 'answer', id: message.id, value: answer(message.request) }
  parentPort?.postMessage(reply)
})
