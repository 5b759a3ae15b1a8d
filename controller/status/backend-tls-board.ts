// SPDX-License-Identifier: Apache-2.0
// What the statuses of all BackendTLSPolicies are to say at this moment. Kept by every replica, written by the one that leads.

import type { Collection } from '../../mesh/collections/index.ts'
import type { ObjectKey } from '../core/origin.ts'
import { type BackendTlsStatus, wantedAncestors } from './backend-tls-status.ts'
import type { StatusSource, WantedStatus } from './wanted-status.ts'

export class BackendTlsBoard implements StatusSource {
  readonly #statuses: Collection<ObjectKey, BackendTlsStatus>

  constructor(statuses: Collection<ObjectKey, BackendTlsStatus>) {
    this.#statuses = statuses
  }

  onChange(listener: () => void): () => void {
    return this.#statuses.subscribe(() => listener())
  }

  get size(): number {
    return this.#statuses.size
  }

  *differing(now: Date): Iterable<WantedStatus> {
    for (const status of this.#statuses.values()) {
      const ancestors = wantedAncestors(status, now)
      if (ancestors !== undefined) yield { status, body: { ancestors } }
    }
  }
}
