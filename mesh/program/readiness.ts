// SPDX-License-Identifier: Apache-2.0
// What a program still waits for before it is ready. A part that came may go again where the program cannot serve without it (set);
// what must happen once is done for good: a controller that goes away later does not take a node's data plane out of service.

export class Readiness {
  readonly #pending: Set<string>

  /** Starts with everything that must be there. */
  constructor(parts: readonly string[]) {
    this.#pending = new Set(parts)
  }

  done(part: string): void {
    this.#pending.delete(part)
  }

  /** Notes that a part is there, or is there no longer. */
  set(part: string, isThere: boolean): void {
    if (isThere) this.#pending.delete(part)
    else this.#pending.add(part)
  }

  /** What is still missing, in the order given. */
  pending(): readonly string[] {
    return [...this.#pending]
  }
}
