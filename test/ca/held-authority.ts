// SPDX-License-Identifier: Apache-2.0
// The authority that signs, changed by hand.

import type { Authority } from '../../controller/ca/authority-source.ts'
import type { SigningAuthority } from '../../mesh/identity/authority.ts'

export class HeldAuthority implements Authority {
  current: SigningAuthority
  readonly #listeners = new Set<(authority: SigningAuthority) => void>()

  constructor(current: SigningAuthority) {
    this.current = current
  }

  onChange(listener: (authority: SigningAuthority) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  change(authority: SigningAuthority): void {
    this.current = authority
    for (const listener of this.#listeners) listener(authority)
  }
}
