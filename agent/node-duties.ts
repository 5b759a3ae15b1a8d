// SPDX-License-Identifier: Apache-2.0
// What one agent of a node does and no other: it enrols the node's pods and answers CNI. Begun when the agent takes the node over, given
// up when a successor has it, and begun anew should that fail.

import type { Pod } from '../mesh/kube/index.ts'
import type { MeshState } from '../mesh/model/mesh-state.ts'
import { errorMessage } from '../mesh/errors.ts'
import {
  type EnrolmentOptions,
  type NodeEnrolment,
  type PodStanding,
  startEnrolment,
} from './enrolment/index.ts'
import { startCni, type StartedCni } from './start-cni.ts'
import type { Starting } from './starting.ts'

export interface NodeDutiesOptions {
  readonly starting: Starting
  readonly enrolment: Omit<EnrolmentOptions, 'onMembership'>
  readonly mesh: MeshState
  /** This agent has the node, and its pods are served. */
  readonly onBegun: () => void
  /** All pods of the node are known. */
  readonly onSynced: () => void
}

export class NodeDuties {
  readonly #options: NodeDutiesOptions
  #node: NodeEnrolment | undefined
  #cni: StartedCni | undefined
  #stack: AsyncDisposableStack | undefined
  #isMeshSynced = false

  constructor(options: NodeDutiesOptions) {
    this.#options = options
  }

  /** Takes the node over: serves at once the pods that an earlier agent had enrolled, then follows the API server. */
  async begin(): Promise<void> {
    const { starting, enrolment, mesh, onBegun, onSynced } = this.#options
    const { log, ending } = starting
    await this.giveUp()
    const stack = new AsyncDisposableStack()
    this.#stack = stack
    const node = await startEnrolment({
      ...enrolment,
      onMembership: () => this.#cni?.membershipChanged(),
    })
    this.#node = node
    stack.defer(() => node.close({ withdraw: ending.unpin }))
    node.synced.then(onSynced, (thrown: unknown) =>
      log.debug({ error: errorMessage(thrown) }, 'closed before the first list'),
    )
    this.#cni = await startCni(
      { ...starting, started: stack },
      { api: enrolment.api, enrolment: node, mesh, isMeshSynced: () => this.#isMeshSynced },
    )
    onBegun()
  }

  /** The control plane has told of everything. */
  meshSynced(): void {
    this.#isMeshSynced = true
    this.#cni?.membershipChanged()
  }

  /** How every pod of the node stands; none before the node was taken. */
  standings(): readonly PodStanding[] {
    return this.#node?.standings() ?? []
  }

  /** The node's pods as the API server told of them; none before the node was taken. */
  pods(): Iterable<Pod> {
    return this.#node?.pods() ?? []
  }

  /** Whether this agent is the one that changes things on the node. */
  async isInCharge(): Promise<boolean> {
    return (await this.#node?.isInCharge()) ?? false
  }

  /** Stops enrolling and answering; what is enrolled stays so, and is served. Idempotent. */
  async giveUp(): Promise<void> {
    const stack = this.#stack
    this.#stack = undefined
    this.#cni = undefined
    await stack?.disposeAsync()
  }
}
