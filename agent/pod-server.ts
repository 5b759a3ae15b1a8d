// SPDX-License-Identifier: Apache-2.0
// Joins enrolment to the data plane: what enrolment asks of a PodServer is done by the pool of workers.

import { errorMessage } from '../mesh/errors.ts'
import { spiffeId } from '../mesh/identity/spiffe.ts'
import { podWorkloadUid } from '../mesh/model/names.ts'
import type { PodUid } from '../mesh/model/types.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import type { Enrolment } from './capture/types.ts'
import type { PodServer } from './enrolment/index.ts'
import type { WorkerPool } from './proxy/worker/worker-pool.ts'

export interface PodServerOptions {
  readonly pool: WorkerPool
  readonly trustDomain: string
  readonly clusterId: string
  /** How long connections of a pod that ends may go on. */
  readonly drainDeadlineMs: number
  readonly log: Logger
  /** A pod is served from now on, or no more. */
  readonly onChange: (change: 'started' | 'stopped') => void
}

/** Serves enrolled pods by the workers of a pool. */
export function createPodServer(options: PodServerOptions): PodServer {
  const { pool, trustDomain, clusterId, drainDeadlineMs, log, onChange } = options
  return {
    async serve({ enrolment, uid, namespace, name, serviceAccount }, listenersLost) {
      const identity = spiffeId({ trustDomain, namespace, serviceAccount })
      const workloadUid = podWorkloadUid(clusterId, { namespace, name })
      const serveAgain = ({ pod, ...rest }: Enrolment): Promise<void> => {
        const { addresses } = pod
        const who = { namespace, name, serviceAccount, identity, workloadUid, addresses }
        // As the kubelet or the API server told it.
        return pool.addPod({ uid: uid as PodUid, ...who }, { pod, ...rest }, listenersLost)
      }
      await serveAgain(enrolment)
      onChange('started')
      return {
        serveAgain,
        drain: () =>
          void pool.drainPod(uid).catch((thrown: unknown) => {
            log.error({ pod: uid, error: errorMessage(thrown) }, 'cannot drain a pod')
          }),
        end: ({ livesOn }) => {
          onChange('stopped')
          return pool.removePod(uid, livesOn ? Number.POSITIVE_INFINITY : drainDeadlineMs)
        },
      }
    },
  }
}
