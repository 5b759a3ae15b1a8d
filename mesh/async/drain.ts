// SPDX-License-Identifier: Apache-2.0
// How anything ends that carries the work of others. The contract:
//  1. Whoever serves something lets it enter, and leave when it is over, whatever way that was.
//  2. A drain waits for all that are in, and for those that enter meanwhile (what the kernel had accepted already is served), to
//     end by themselves. Telling them to (GOAWAY), and letting no newcomer in, is the owner's part, before it drains.
//  3. At the deadline, or at once when it is 0, what is left is cut; never when it is infinite. Cutting only starts the end: a member leaves when it is over.
//  4. A drain says how many it cut. Several may run at once: what one has cut, another does not count.

import { inTime, LATE } from './deadline.ts'
import { Roster, type RosterMember } from './roster.ts'

/** The members of something that can be drained. Entering and leaving are hot: once per connection. */
export class Drain<Member extends RosterMember> implements Iterable<Member> {
  readonly #members = new Roster<Member>()
  /** Made by the first who waits; resolved, and gone, when the last member leaves. */
  #empty: PromiseWithResolvers<void> | undefined

  enter(member: Member): void {
    this.#members.add(member)
  }

  leave(member: Member): void {
    this.#members.delete(member)
    if (this.#members.size > 0 || this.#empty === undefined) return
    this.#empty.resolve()
    this.#empty = undefined
  }

  has(member: Member): boolean {
    return this.#members.has(member)
  }

  get size(): number {
    return this.#members.size
  }

  /** Over those who are in now: members may leave under way. */
  [Symbol.iterator](): ArrayIterator<Member> {
    return this.#members[Symbol.iterator]()
  }

  /** Resolves when nobody is in. */
  async whenEmpty(): Promise<void> {
    if (this.#members.size === 0) return
    this.#empty ??= Promise.withResolvers()
    await this.#empty.promise
  }

  /**
   * Waits for the members to end, no longer than this, then cuts those that are left. `cut` says how many it ended by that: 0 for a
   * member that somebody else has cut before.
   */
  async drain(
    deadlineMs: number,
    cut: (member: Member) => number,
  ): Promise<{ readonly cut: number }> {
    if (deadlineMs === Number.POSITIVE_INFINITY) {
      await this.whenEmpty()
      return { cut: 0 }
    }
    if (deadlineMs > 0 && (await inTime(this.whenEmpty(), deadlineMs)) !== LATE) return { cut: 0 }
    let sum = 0
    for (const member of this) sum += cut(member)
    return { cut: sum }
  }
}
