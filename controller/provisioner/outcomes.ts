// SPDX-License-Identifier: Apache-2.0
// What became of the waypoints that were to be made, for the statuses of their Gateways. Only the replica that makes them knows, which is the
// one that writes statuses, too.

import type { ObjectKey } from '../core/origin.ts'
import type { ProvisionFlaw } from './managed-object.ts'

/** By Gateway. */
export class Outcomes {
  readonly #flaws = new Map<ObjectKey, ProvisionFlaw | undefined>()
  readonly #listeners = new Set<() => void>()

  set(gateway: ObjectKey, flaw: ProvisionFlaw | undefined): void {
    this.#flaws.set(gateway, flaw)
    this.#tell()
  }

  forget(gateway: ObjectKey): void {
    if (this.#flaws.delete(gateway)) this.#tell()
  }

  /** What keeps it from being made; undefined: nothing that is known. */
  flawOf(gateway: ObjectKey): ProvisionFlaw | undefined {
    return this.#flaws.get(gateway)
  }

  /** Calls back at each change; returns the unsubscriber. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}
