// SPDX-License-Identifier: Apache-2.0
// What the agent still waits for before it is ready. Once ready it stays so: a controller that goes away later does
// not take the node's data plane out of service.

export class Readiness {
  readonly #pending: Set<string>

  /** Starts with everything that must happen once. */
  constructor(tasks: readonly string[]) {
    this.#pending = new Set(tasks)
  }

  done(task: string): void {
    this.#pending.delete(task)
  }

  /** What is still missing, in the order given. */
  pending(): readonly string[] {
    return [...this.#pending]
  }
}
