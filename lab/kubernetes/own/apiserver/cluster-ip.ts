// SPDX-License-Identifier: Apache-2.0
// Service addresses: pools of cluster IPs, one per family, and of node ports.

import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

export type IpFamily = 'IPv4' | 'IPv6'

/** The lower addresses are for services that ask for a certain one (10.96.0.10 for DNS, say). */
const STATIC_BAND = 256
/** More than any lab uses, and small enough that scanning a full pool stays quick. */
const MAX_POOL = 65_536

const NODE_PORT_FIRST = 30_000
const NODE_PORT_LAST = 32_767

/** The family of an address, or undefined when it is none. */
export function familyOf(address: string): IpFamily | undefined {
  const version = isIP(address)
  return version === 4 ? 'IPv4' : version === 6 ? 'IPv6' : undefined
}

const toNumber = (bytes: readonly number[]): bigint =>
  bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n)

function toAddress(value: bigint, length: number): string {
  const bytes = Array.from({ length }, (_, index) =>
    Number((value >> BigInt(8 * (length - 1 - index))) & 0xffn),
  )
  return ipaddr.fromByteArray(bytes).toString()
}

/** Addresses of one range; remembers which are taken. */
export class AddressPool {
  readonly cidr: string
  readonly #base: bigint
  readonly #size: number
  readonly #byteLength: number
  readonly #taken = new Set<string>()
  /** Moves on, so that an address just freed is not given out at once. */
  #cursor: number

  constructor(cidr: string) {
    const [address, bits] = ipaddr.parseCIDR(cidr)
    const bytes = address.toByteArray()
    this.cidr = cidr
    this.#byteLength = bytes.length
    const hostBits = BigInt(bytes.length * 8 - bits)
    this.#base = (toNumber(bytes) >> hostBits) << hostBits
    const hosts = 1n << hostBits
    this.#size = hosts > BigInt(MAX_POOL) ? MAX_POOL : Number(hosts)
    this.#cursor = this.#firstDynamic()
  }

  /** The address at a position of the range. */
  at(index: number): string {
    return toAddress(this.#base + BigInt(index), this.#byteLength)
  }

  /** Whether an address lies in the range. */
  has(address: string): boolean {
    const parsed = ipaddr.parse(address)
    const [range, bits] = ipaddr.parseCIDR(this.cidr)
    return parsed.kind() === range.kind() && parsed.match(range, bits)
  }

  /** Takes a certain address; false when it is taken already. */
  take(address: string): boolean {
    const canonical = ipaddr.parse(address).toString()
    if (this.#taken.has(canonical)) return false
    this.#taken.add(canonical)
    return true
  }

  /** Takes a free address, or undefined when there is none. */
  takeAny(): string | undefined {
    for (let tried = 0; tried < this.#size; tried += 1) {
      const candidate = this.at(this.#cursor)
      this.#cursor += 1
      // The last address is IPv4's broadcast; the first is the network itself.
      if (this.#cursor >= this.#size - 1) this.#cursor = this.#firstDynamic()
      if (this.take(candidate)) return candidate
    }
    return undefined
  }

  release(address: string): void {
    this.#taken.delete(ipaddr.parse(address).toString())
  }

  #firstDynamic(): number {
    return this.#size > STATIC_BAND * 2 ? STATIC_BAND : 1
  }
}

export class ClusterIpPools {
  readonly pools: { readonly [family in IpFamily]: AddressPool }
  readonly #nodePorts = new Set<number>()

  constructor(cidr4: string, cidr6: string) {
    this.pools = { IPv4: new AddressPool(cidr4), IPv6: new AddressPool(cidr6) }
  }

  takeNodePort(wanted: number | undefined): number | undefined {
    if (wanted !== undefined) {
      const isFree =
        wanted >= NODE_PORT_FIRST && wanted <= NODE_PORT_LAST && !this.#nodePorts.has(wanted)
      if (isFree) this.#nodePorts.add(wanted)
      return isFree ? wanted : undefined
    }
    for (let port = NODE_PORT_FIRST; port <= NODE_PORT_LAST; port += 1)
      if (!this.#nodePorts.has(port)) return this.takeNodePort(port)
    return undefined
  }

  releaseNodePort(port: number): void {
    this.#nodePorts.delete(port)
  }
}
