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
  readonly #world: TryingWorld
  readonly #now: () => number

  /** `now` is a monotonic clock in milliseconds. */
  constructor(
    mesh: Pick<MeshState, 'workload'>,
    listener: EjectionListener,
    now: () => number = () => performance.now(),
  ) {
    this.#now = now
    this.#ejections = new Ejections(now)
    this.#world = { mesh, listener, ejections: this.#ejections, open: this.#open }
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
    const isOnTrial = this.#ejections.begin(to)
    this.#open.set(to.endpoint, this.openTo(to.endpoint) + 1)
    return new Trying(to, isOnTrial, this.#now(), this.#world)
  }

  /** The endpoint has left the mesh. */
  forget(endpoint: WorkloadUid): void {
    this.#ejections.forget(endpoint)
  }
}

/** What the attempts of one caller share. */
interface TryingWorld {
  readonly mesh: Pick<MeshState, 'workload'>
  readonly listener: EjectionListener
  readonly ejections: Ejections
  readonly open: Map<WorkloadUid, number>
}

/** An object and not closures: there is one for each request of a waypoint. */
class Trying implements Attempt {
  readonly #to: EndpointPort
  readonly #begunAt: number
  readonly #world: TryingWorld
  #isOnTrial: boolean
  #isOver = false

  constructor(to: EndpointPort, isOnTrial: boolean, begunAt: number, world: TryingWorld) {
    this.#to = to
    this.#begunAt = begunAt
    this.#world = world
    this.#isOnTrial = isOnTrial
  }

  opened(): void {
    this.#isOnTrial = false
    const { ejections, listener } = this.#world
    if (ejections.succeeded(this.#to)) listener.recovered(this.#to)
  }

  failed(why: string): void {
    const { ejections, listener, mesh } = this.#world
    if (this.#isOnTrial) ejections.withoutVerdict(this.#to)
    this.#isOnTrial = false
    // One that has left meanwhile failed because it left, and nobody would forget it.
    if (mesh.workload(this.#to.endpoint) === undefined) return
    const ejection = ejections.failed(this.#to, this.#begunAt)
    if (ejection?.isNew === true) listener.ejected(this.#to, ejection.forMs, why)
  }

  end(): void {
    if (this.#isOver) return
    this.#isOver = true
    const { ejections, open } = this.#world
    const { endpoint } = this.#to
    if (this.#isOnTrial) ejections.withoutVerdict(this.#to)
    const left = (open.get(endpoint) ?? 0) - 1
    if (left > 0) open.set(endpoint, left)
    else open.delete(endpoint)
  }
}
