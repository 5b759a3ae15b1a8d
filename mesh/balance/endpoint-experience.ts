// SPDX-License-Identifier: Apache-2.0
// What the connections of one caller, such as a pod, have met at the endpoints of services: how many are open to each, and which fail.
// Each has its own, and so it needs no other thread's. Connections count from their choice to their end, those included that are still
// being opened: an endpoint that swallows them gets no more.

import type { Experience } from '../model/load-balance.ts'
import type { MeshState } from '../model/mesh-state.ts'
import type { WorkloadUid } from '../model/types.ts'
import { type EndpointPort, Ejections } from './ejections.ts'

/** Who hears of an endpoint that is ejected, and of its recovery: once each, not at every trial between. */
export interface EjectionListener {
  ejected(endpoint: EndpointPort, forMs: number, why: string): void
  recovered(endpoint: EndpointPort): void
}

/** One connection's try of an endpoint, from its choice to the connection's end. */
export interface Attempt {
  /** It stands; whatever becomes of it, the endpoint takes connections. */
  opened(): void
  /** It could not be had, by a fault of the endpoint. */
  failed(why: string): void
  /** The connection is over, or goes elsewhere. */
  end(): void
}

export class EndpointExperience implements Experience {
  readonly #open = new Map<WorkloadUid, number>()
  readonly #ejections: Ejections
  readonly #mesh: Pick<MeshState, 'workload'>
  readonly #listener: EjectionListener
  readonly #now: () => number

  /** `now` is a monotonic clock in milliseconds. */
  constructor(
    mesh: Pick<MeshState, 'workload'>,
    listener: EjectionListener,
    now: () => number = () => performance.now(),
  ) {
    this.#mesh = mesh
    this.#listener = listener
    this.#now = now
    this.#ejections = new Ejections(now)
  }

  openTo(endpoint: WorkloadUid): number {
    return this.#open.get(endpoint) ?? 0
  }

  isEjected(endpoint: WorkloadUid, port: number): boolean {
    return this.#ejections.isEjected(endpoint, port)
  }

  get hasEjected(): boolean {
    return this.#ejections.size > 0
  }

  /** An endpoint was chosen. The attempt is to be ended. */
  begin(to: EndpointPort): Attempt {
    const { endpoint } = to
    const ejections = this.#ejections
    const begunAt = this.#now()
    let isOnTrial = ejections.begin(to)
    let isOver = false
    this.#open.set(endpoint, this.openTo(endpoint) + 1)
    return {
      opened: () => {
        isOnTrial = false
        if (ejections.succeeded(to)) this.#listener.recovered(to)
      },
      failed: (why) => {
        if (isOnTrial) ejections.withoutVerdict(to)
        isOnTrial = false
        // One that has left meanwhile failed because it left, and nobody would forget it.
        if (this.#mesh.workload(endpoint) === undefined) return
        const ejection = ejections.failed(to, begunAt)
        if (ejection?.isNew === true) this.#listener.ejected(to, ejection.forMs, why)
      },
      end: () => {
        if (isOver) return
        isOver = true
        if (isOnTrial) ejections.withoutVerdict(to)
        const open = this.openTo(endpoint) - 1
        if (open > 0) this.#open.set(endpoint, open)
        else this.#open.delete(endpoint)
      },
    }
  }

  /** The endpoint has left the mesh. */
  forget(endpoint: WorkloadUid): void {
    this.#ejections.forget(endpoint)
  }
}
