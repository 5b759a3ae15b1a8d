// SPDX-License-Identifier: Apache-2.0
// What was said last of the workloads of this node's pods. Discovery drops one whose pod ends (Succeeded, evicted) while the pod still runs,
// calls and is called: what was said of its policies counts until the pod is gone. One keeper for all who have to know it later: the
// file that the next agent reads, and workers that start anew. Does no I/O.

import type { MeshState } from '../../mesh/model/mesh-state.ts'
import { isPodWorkloadUid } from '../../mesh/model/names.ts'
import type { MeshChange, Workload, WorkloadUid } from '../../mesh/model/types.ts'
import type { LastSaid } from '../proxy/decision/pod-policies.ts'

export class LastWords {
  readonly #nodeName: string
  readonly #mesh: MeshState
  readonly #said = new Map<WorkloadUid, LastSaid>()

  /** Begins with what the mesh state knows; from then on it is told by hear(). */
  constructor(nodeName: string, mesh: MeshState) {
    this.#nodeName = nodeName
    this.#mesh = mesh
    this.hear(mesh.snapshot())
  }

  of(uid: WorkloadUid): LastSaid | undefined {
    return this.#said.get(uid)
  }

  /** Those that could be read once, as they were read last. */
  *workloads(): Iterable<Workload> {
    for (const { workload } of this.#said.values()) if (workload !== undefined) yield workload
  }

  /** Those of which what was said last could not be read, with what is wrong with it. */
  *unreadable(): Iterable<readonly [WorkloadUid, string]> {
    for (const [uid, { unreadable }] of this.#said)
      if (unreadable !== undefined) yield [uid, unreadable]
  }

  /** Takes in what is said; whether any of it is about pods that are, or were, of this node. */
  hear(changes: readonly MeshChange[]): boolean {
    let isOurs = false
    for (const change of changes)
      if (change.kind === 'workload') isOurs = this.#note(change.workload) || isOurs
      else if (change.kind === 'workloadRemoved') isOurs = this.#said.has(change.uid) || isOurs
      else if (change.kind === 'workloadUnreadable') isOurs = this.#notRead(change) || isOurs
    return isOurs
  }

  /** Forgets what discovery has dropped and no pod is served for. */
  forget(isServed: (uid: WorkloadUid) => boolean): void {
    for (const uid of this.#said.keys())
      if (
        this.#mesh.workload(uid) === undefined &&
        this.#mesh.unreadableWorkload(uid) === undefined &&
        !isServed(uid)
      )
        this.#said.delete(uid)
  }

  #note(workload: Workload): boolean {
    const { uid, node } = workload
    if (node !== this.#nodeName || !isPodWorkloadUid(uid)) return this.#said.delete(uid)
    this.#said.set(uid, { workload, unreadable: undefined })
    return true
  }

  /** One that never could be read may be of any node. */
  #notRead({ uid, reason }: { readonly uid: WorkloadUid; readonly reason: string }): boolean {
    const workload = this.#said.get(uid)?.workload
    if (workload === undefined && this.#mesh.workload(uid) !== undefined) return false
    this.#said.set(uid, { workload, unreadable: reason })
    return true
  }
}
