// SPDX-License-Identifier: Apache-2.0
// A data plane that writes down what it is told, and has no sockets.

import type { PodServer } from '../../agent/enrolment/index.ts'

export interface RecordingServer extends PodServer {
  /** By pod name: as if the worker that serves the pod had died. */
  readonly listenersLost: ReadonlyMap<string, () => void>
}

/** Writes `enrolled web as account`, `served web again`, `draining web`, `withdrawn web`. */
export function recordingServer(told: string[]): RecordingServer {
  const listenersLost = new Map<string, () => void>()
  const tell = (what: string): Promise<void> => Promise.resolve(void told.push(what))
  return {
    listenersLost,
    async serve({ name, serviceAccount }, lost) {
      listenersLost.set(name, lost)
      await tell(`enrolled ${name} as ${serviceAccount}`)
      return {
        serveAgain: () => tell(`served ${name} again`),
        drain: () => void tell(`draining ${name}`),
        end: () => tell(`withdrawn ${name}`),
      }
    },
  }
}
