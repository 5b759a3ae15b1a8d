// SPDX-License-Identifier: Apache-2.0
// The structs of bpf/ambit.h as TypeScript writes and reads them, and the comparison with what the compiler made of
// them (BTF): a difference stops the agent before it loads anything.

import type { SocketAddress } from '../../mesh/model/types.ts'
import type { BtfTypes } from '../../native/btf.ts'
import { ADDRESS_SIZE, fromMapAddress } from './addresses.ts'
import { CAPTURE_REASONS, enumConstant } from './counters.ts'

/** Addresses one pod may have (AMBIT_MAX_ADDRESSES). */
export const MAX_POD_ADDRESSES = 8
const POD_FAIL_OPEN = 1
export const LISTENER_KIND = { plaintext: 0, hbone: 1 } as const
export const SOCKET_FLAG = { exempt: 1, captured: 2, accepted: 4, selfTest: 16, seen: 32 } as const

/** Offsets and sizes in bytes, by struct. */
export const LAYOUT = {
  ambit_pod: {
    size: 40 + MAX_POD_ADDRESSES * ADDRESS_SIZE,
    members: { flags: 0, address_count: 4, primary4: 8, primary6: 24, address: 40 },
  },
  ambit_address_info: { size: 16, members: { flags: 0, reserved: 4, netns_cookie: 8 } },
  ambit_socket: { size: 24, members: { address: 0, port: 16, flags: 18, reserved: 20 } },
  ambit_tuple: {
    size: 48,
    members: {
      netns_cookie: 0,
      source: 8,
      destination: 24,
      source_port: 40,
      destination_port: 42,
      reserved: 44,
    },
  },
  ambit_trusted_tuple: {
    size: 36,
    members: { remote: 0, local: 16, remote_port: 32, local_port: 34 },
  },
  ambit_listener: { size: 20, members: { address: 0, kind: 16 } },
} as const

/** Says where TypeScript and the object disagree; empty when they agree. */
export function layoutDifferences(types: BtfTypes): readonly string[] {
  const differences: string[] = []
  for (const [name, expected] of Object.entries(LAYOUT)) {
    const found = types.structs.get(name)
    if (found === undefined) {
      differences.push(`struct ${name} is missing`)
      continue
    }
    if (found.size !== expected.size)
      differences.push(`struct ${name} has ${found.size} bytes, expected ${expected.size}`)
    for (const [member, offset] of Object.entries(expected.members))
      if (found.members.get(member) !== offset)
        differences.push(
          `${name}.${member} is at ${found.members.get(member) ?? 'no offset'}, expected ${offset}`,
        )
  }
  const reasons = types.enums.get('ambit_reason')
  for (const [index, reason] of CAPTURE_REASONS.entries())
    if (reasons?.get(enumConstant(reason)) !== index)
      differences.push(`${enumConstant(reason)} is not number ${index}`)
  if (reasons?.get('AMBIT_REASON_COUNT') !== CAPTURE_REASONS.length)
    differences.push(`ambit_reason does not have ${CAPTURE_REASONS.length} reasons`)
  return differences
}

/** What `pods` holds of a pod; addresses in map form, the first of each family is the primary one. */
export interface PodEntry {
  readonly failOpen: boolean
  readonly ipv4: readonly Buffer[]
  readonly ipv6: readonly Buffer[]
}

/** struct ambit_pod. */
export function encodePod(pod: PodEntry): Buffer {
  const { size, members } = LAYOUT.ambit_pod
  const value = Buffer.alloc(size)
  const addresses = [...pod.ipv4, ...pod.ipv6]
  value.writeUInt32LE(pod.failOpen ? POD_FAIL_OPEN : 0, members.flags)
  value.writeUInt32LE(addresses.length, members.address_count)
  if (pod.ipv4[0] !== undefined) value.set(pod.ipv4[0], members.primary4)
  if (pod.ipv6[0] !== undefined) value.set(pod.ipv6[0], members.primary6)
  for (const [index, address] of addresses.entries())
    value.set(address, members.address + index * ADDRESS_SIZE)
  return value
}

/** The addresses in a struct ambit_pod, in map form. */
export function decodePodAddresses(value: Buffer): readonly Buffer[] {
  const { members } = LAYOUT.ambit_pod
  const count = Math.min(value.readUInt32LE(members.address_count), MAX_POD_ADDRESSES)
  return Array.from({ length: count }, (_, index) => {
    const at = members.address + index * ADDRESS_SIZE
    return value.subarray(at, at + ADDRESS_SIZE)
  })
}

/** struct ambit_address_info. */
export function encodeAddressInfo(failOpen: boolean, netnsCookie: bigint): Buffer {
  const { size, members } = LAYOUT.ambit_address_info
  const value = Buffer.alloc(size)
  value.writeUInt32LE(failOpen ? POD_FAIL_OPEN : 0, members.flags)
  value.writeBigUInt64LE(netnsCookie, members.netns_cookie)
  return value
}

/** The cookie of the pod that owns an address. */
export function decodeAddressOwner(value: Buffer): bigint {
  return value.readBigUInt64LE(LAYOUT.ambit_address_info.members.netns_cookie)
}

/** struct ambit_listener, the key of a listener slot. */
export function encodeListenerKey(address: Buffer, kind: keyof typeof LISTENER_KIND): Buffer {
  const { size, members } = LAYOUT.ambit_listener
  const key = Buffer.alloc(size)
  key.set(address, members.address)
  key.writeUInt32LE(LISTENER_KIND[kind], members.kind)
  return key
}

/** The destination in a struct ambit_socket of an accepted connection; undefined for any other socket. */
export function decodeDestination(value: Buffer): SocketAddress | undefined {
  const { members } = LAYOUT.ambit_socket
  if ((value.readUInt16LE(members.flags) & SOCKET_FLAG.accepted) === 0) return undefined
  return { address: fromMapAddress(value), port: value.readUInt16BE(members.port) }
}

/** A u64 map key or value. */
export function encodeU64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(value)
  return bytes
}
