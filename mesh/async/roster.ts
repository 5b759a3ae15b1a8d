// SPDX-License-Identifier: Apache-2.0
// Members that come and go, in the order of their coming: what a Set is for, where thousands a second pass through. V8's Set (and Map)
// leaves its old table behind whenever it has to make room, with all that was in it then and a pointer to the next one. As soon as one
// such table is old, collections of young objects take all that come after it for alive: of a Set of connections, most of what belonged
// to them outlived them until the next full collection, and had to be copied. Here nobody links to whoever has left.

/** What can be in a roster: in one at a time. */
export interface RosterMember {
  /** Its place, kept by the roster. */
  listed?: Listed | undefined
}

/** A member's place in its roster. */
class Listed<Member extends RosterMember = RosterMember> {
  readonly roster: object
  readonly member: Member
  previous: Listed<Member> | undefined
  next: Listed<Member> | undefined

  constructor(roster: object, member: Member, previous: Listed<Member> | undefined) {
    this.roster = roster
    this.member = member
    this.previous = previous
  }
}
export type { Listed }

/** Entering, leaving and asking for one cost the same however many there are. Hot: several times for each connection. */
export class Roster<Member extends RosterMember> implements Iterable<Member> {
  #first: Listed<Member> | undefined
  #last: Listed<Member> | undefined
  #size = 0

  get size(): number {
    return this.#size
  }

  /** Who came before all others that are in. */
  get first(): Member | undefined {
    return this.#first?.member
  }

  has(member: Member): boolean {
    return member.listed?.roster === this
  }

  /** Puts it at the end, unless it is in. Throws when it is in another roster, which is a bug. */
  add(member: Member): void {
    if (member.listed !== undefined) {
      if (member.listed.roster === this) return
      throw new Error('a member of one roster cannot enter another')
    }
    const listed = new Listed<Member>(this, member, this.#last)
    if (this.#last === undefined) this.#first = listed
    else this.#last.next = listed
    this.#last = listed
    member.listed = listed
    this.#size += 1
  }

  /** Takes it out; whether it was in. */
  delete(member: Member): boolean {
    if (!this.has(member)) return false
    // Only add() sets it, and it said whose it is.
    const listed = member.listed as Listed<Member>
    const { previous, next } = listed
    if (previous === undefined) this.#first = next
    else previous.next = next
    if (next === undefined) this.#last = previous
    else next.previous = previous
    listed.previous = undefined
    listed.next = undefined
    member.listed = undefined
    this.#size -= 1
    return true
  }

  /** Over those who are in now: members may leave under way. */
  [Symbol.iterator](): ArrayIterator<Member> {
    const members: Member[] = []
    for (let at = this.#first; at !== undefined; at = at.next) members.push(at.member)
    return members.values()
  }
}
