// SPDX-License-Identifier: Apache-2.0
// The dynamic table of one HPACK decoder (RFC 7541 2.3.2, 4): a ring, so that what was evicted is gone at once and the
// memory that a peer can make us keep is what its table counts.

/** RFC 7541 4.1: what an entry counts beyond its octets; also RFC 9113 6.5.2 for the header list. */
export const ENTRY_OVERHEAD_BYTES = 32
/** What an entry takes beyond its octets: two strings and a pair, as measured on Node 26. */
const ENTRY_COST_BYTES = 128
/** What a ring slot takes. */
const SLOT_BYTES = 8

type Entry = readonly [name: string, value: string]

export class HpackTable {
  readonly #slots: number
  /** Made when the first entry comes: most peers of ours never index. */
  #ring: (Entry | undefined)[] = []
  #oldest = 0
  #count = 0
  #bytes = 0
  #limit: number

  constructor(mostBytes: number) {
    this.#limit = mostBytes
    this.#slots = Math.floor(mostBytes / ENTRY_OVERHEAD_BYTES)
  }

  /** Bytes that entries may count in all now. */
  get limit(): number {
    return this.#limit
  }

  /** Entries there are. */
  get count(): number {
    return this.#count
  }

  /** Memory it holds, in bytes. */
  get heldBytes(): number {
    return (
      this.#ring.length * SLOT_BYTES +
      this.#bytes +
      this.#count * (ENTRY_COST_BYTES - ENTRY_OVERHEAD_BYTES)
    )
  }

  /** The entry of that age, 0 for the newest. */
  get(age: number): Entry | undefined {
    if (age >= this.#count) return undefined
    return this.#ring[(this.#oldest + this.#count - 1 - age) % this.#slots]
  }

  /** Makes room and takes the entry; one that is larger than the table only empties it (RFC 7541 4.4). */
  add(entry: Entry): void {
    const bytes = sizeOf(entry)
    this.#evictTo(this.#limit - bytes)
    if (bytes > this.#limit) return
    if (this.#ring.length === 0)
      this.#ring = new Array<Entry | undefined>(this.#slots).fill(undefined)
    this.#ring[(this.#oldest + this.#count) % this.#slots] = entry
    this.#count += 1
    this.#bytes += bytes
  }

  /** Sets what entries may count, at most what the table was made for. */
  resize(limit: number): void {
    this.#limit = limit
    this.#evictTo(limit)
  }

  clear(): void {
    this.#evictTo(0)
  }

  #evictTo(most: number): void {
    while (this.#bytes > most && this.#count > 0) {
      const entry = this.#ring[this.#oldest]
      this.#ring[this.#oldest] = undefined
      this.#oldest = (this.#oldest + 1) % this.#slots
      this.#count -= 1
      if (entry !== undefined) this.#bytes -= sizeOf(entry)
    }
  }
}

function sizeOf([name, value]: Entry): number {
  return name.length + value.length + ENTRY_OVERHEAD_BYTES
}
