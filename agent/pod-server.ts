// SPDX-License-Identifier: Apache-2.0
// Joins enrolment to the data plane: what enrolment asks of a PodServer is done by the pool of workers, and the mesh
// says when a pod's peers know that it leaves.

import { setTimeout as delay } from 'node:timers/promises'
import { errorMessage } from '../mesh/errors.ts'
import { spiffeId } from '../mesh/identity/spiffe.ts'
import type { MeshState } from '../mesh/model/mesh-state.ts'
import { podWorkloadUid } from '../mesh/model/names.ts'
import type { PodUid, WorkloadUid } from '../mesh/model/types.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import type { Enrolment } from './capture/types.ts'
import type { PodServer } from './enrolment/index.ts'
import type { WorkerPool } from './proxy/worker/worker-pool.ts'

export interface PodServerOptions {
  readonly pool: WorkerPool
  readonly mesh: MeshState
  readonly trustDomain: string
  readonly clusterId: string
  /** How long connections of a pod that ends may go on. */
  readonly drainDeadlineMs: number
  readonly log: Logger
}

/** Connections that a pod made in the mesh go on this long after it left. */
const LEFT_BEHIND_DEADLINE_MS = 3_600_000
/** How long a pod that leaves the mesh waits to hear of it from the control plane. */
const LEAVING_DEADLINE_MS = 500
/** The control plane tells all agents at once; this much later than we the last of them may have applied it. */
const PEERS_BEHIND_MS = 150

/** Serves enrolled pods by the workers of a pool. */
export function createPodServer(options: PodServerOptions): PodServer {
  const { pool, mesh, trustDomain, clusterId, drainDeadlineMs, log } = options
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
      return {
        serveAgain,
        drain: () =>
          void pool.drainPod(uid).catch((thrown: unknown) => {
            log.error({ pod: uid, error: errorMessage(thrown) }, 'cannot drain a pod')
          }),
        takeLeave: () => peersKnowPlain(mesh, workloadUid),
        end: ({ livesOn }) =>
          pool.removePod(uid, livesOn ? LEFT_BEHIND_DEADLINE_MS : drainDeadlineMs),
      }
    },
  }
}

/** Resolves when the peers of a workload have heard, as far as can be known here, that it speaks HBONE no more. */
async function peersKnowPlain(mesh: MeshState, uid: WorkloadUid): Promise<void> {
  const isPlain = (): boolean => mesh.workload(uid)?.tunnelProtocol !== 'hbone'
  if (!isPlain()) {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const deadline = setTimeout(() => resolve(undefined), LEAVING_DEADLINE_MS)
    const unsubscribe = mesh.subscribe(() => {
      if (isPlain()) resolve(undefined)
    })
    await promise
    clearTimeout(deadline)
    unsubscribe()
  }
  await delay(PEERS_BEHIND_MS)
}
