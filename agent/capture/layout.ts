// SPDX-License-Identifier: Apache-2.0
// The structs of bpf/ambit.h as TypeScript writes and reads them, and the comparison with what the compiler made of
// them (BTF): a difference stops the agent before it loads anything.

import type { BtfTypes } from '../../native/btf.ts'
import { fromMapAddress } from './addresses.ts'
import { CAPTURE_REASONS, enumConstant } from './counters.ts'
import type { AskedOptions, OriginalDestination } from './types.ts'

/** Addresses of one pod that the hooks know (AMBIT_MAX_ADDRESSES). */
export const MAX_POD_ADDRESSES = 16
/** Stands in the program text of sk_lookup for the cookie of the namespace it is linked to (AMBIT_OWN_COOKIE). */
export const OWN_COOKIE = 0xa3b17c0041eaddeen
/** Likewise, for whether the kernel tells it by which device a packet came (AMBIT_SEES_DEVICE). */
export const SEES_DEVICE = 0xa3b17c0041eaddefn
export const POD_FLAG = { failOpen: 1, confined4: 2, confined6: 4 } as const
export const LISTENER_KIND = { plaintext: 0, hbone: 1, outbound: 2 } as const
export const SOCKET_FLAG = {
  exempt: 1,
  captured: 2,
  accepted: 4,
  selfTest: 16,
  seen: 32,
  ownPort: 128,
} as const

/** Offsets and sizes in bytes, by struct. */
export const LAYOUT = {
  ambit_pod_address: { size: 40, members: { address: 0, mask: 16, interface: 32, reserved: 36 } },
  ambit_pod: {
    size: 40 + MAX_POD_ADDRESSES * 40,
    members: { flags: 0, address_count: 4, primary4: 8, primary6: 24, address: 40 },
  },
  ambit_asked: {
    size: 24,
    members: {
      keep_alive: 0,
      keep_idle_s: 4,
      keep_interval_s: 8,
      keep_probes: 12,
      user_timeout_ms: 16,
      traffic_class: 20,
    },
  },
  ambit_socket: {
    size: 56,
    members: { address: 0, port: 16, flags: 18, reserved: 20, cookie: 24, asked: 32 },
  },
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
    size: 48,
    members: {
      netns_cookie: 0,
      remote: 8,
      local: 24,
      remote_port: 40,
      local_port: 42,
      reserved: 44,
    },
  },
  ambit_listener: { size: 16, members: { netns_cookie: 0, family: 8, kind: 10, reserved: 12 } },
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

/** An address of a pod's namespace, in map form. */
export interface PodAddressEntry {
  readonly address: Buffer
  readonly mask: Buffer
  /** Index of its device in the pod. */
  readonly interface: number
}

/** What `pods` holds of a pod. */
export interface PodEntry {
  readonly failOpen: boolean
  /** Families whose routes lead no further than the networks of `addresses`. */
  readonly confined: readonly (4 | 6)[]
  /** What the pod calls from, by family; undefined where its namespace has no address for it. */
  readonly primary4: Buffer | undefined
  readonly primary6: Buffer | undefined
  /** Those of the narrowest networks first; what is beyond MAX_POD_ADDRESSES is left out. */
  readonly addresses: readonly PodAddressEntry[]
}

/** struct ambit_pod. */
export function encodePod(pod: PodEntry): Buffer {
  const { size, members } = LAYOUT.ambit_pod
  const value = Buffer.alloc(size)
  const addresses = pod.addresses.slice(0, MAX_POD_ADDRESSES)
  value.writeUInt32LE(
    (pod.failOpen ? POD_FLAG.failOpen : 0) |
      (pod.confined.includes(4) ? POD_FLAG.confined4 : 0) |
      (pod.confined.includes(6) ? POD_FLAG.confined6 : 0),
    members.flags,
  )
  value.writeUInt32LE(addresses.length, members.address_count)
  if (pod.primary4 !== undefined) value.set(pod.primary4, members.primary4)
  if (pod.primary6 !== undefined) value.set(pod.primary6, members.primary6)
  for (const [index, own] of addresses.entries()) {
    const at = members.address + index * LAYOUT.ambit_pod_address.size
    value.set(own.address, at + LAYOUT.ambit_pod_address.members.address)
    value.set(own.mask, at + LAYOUT.ambit_pod_address.members.mask)
    value.writeUInt32LE(own.interface, at + LAYOUT.ambit_pod_address.members.interface)
  }
  return value
}

/** Whether a struct ambit_pod, of this layout or an earlier one, says that the pod is open while there is no agent. */
export function failOpenOf(value: Buffer): boolean {
  return (value.readUInt32LE(LAYOUT.ambit_pod.members.flags) & POD_FLAG.failOpen) !== 0
}

/** struct ambit_listener, the key of a listener slot. */
export function encodeListenerKey(
  netnsCookie: bigint,
  family: 4 | 6,
  kind: keyof typeof LISTENER_KIND,
): Buffer {
  const { size, members } = LAYOUT.ambit_listener
  const key = Buffer.alloc(size)
  key.writeBigUInt64LE(netnsCookie, members.netns_cookie)
  key.writeUInt16LE(family, members.family)
  key.writeUInt16LE(LISTENER_KIND[kind], members.kind)
  return key
}

/** The destination in a struct ambit_socket of an accepted connection; undefined for any other socket. */
export function decodeDestination(value: Buffer): OriginalDestination | undefined {
  const { members } = LAYOUT.ambit_socket
  const flags = value.readUInt16LE(members.flags)
  if ((flags & SOCKET_FLAG.accepted) === 0) return undefined
  return {
    address: fromMapAddress(value),
    port: value.readUInt16BE(members.port),
    hasOwnPort: (flags & SOCKET_FLAG.ownPort) !== 0,
    cookie: value.readBigUInt64LE(members.cookie),
    asked: decodeAsked(value, members.asked),
  }
}

/** Whether a struct ambit_socket is of an app's socket that the connect hook has turned to the agent. */
export function isCapturedSocket(value: Buffer): boolean {
  return (value.readUInt16LE(LAYOUT.ambit_socket.members.flags) & SOCKET_FLAG.captured) !== 0
}

/** struct ambit_asked; undefined when nothing was asked. Hot: mostly it is all zero. */
export function decodeAsked(value: Buffer, at = 0): AskedOptions | undefined {
  const { size, members } = LAYOUT.ambit_asked
  if (value.subarray(at, at + size).every((byte) => byte === 0)) return undefined
  const read = (member: keyof typeof members): number => value.readUInt32LE(at + members[member])
  return {
    keepAlive: read('keep_alive') !== 0,
    keepIdleS: read('keep_idle_s'),
    keepIntervalS: read('keep_interval_s'),
    keepProbes: read('keep_probes'),
    userTimeoutMs: read('user_timeout_ms'),
    trafficClass: read('traffic_class'),
  }
}

/** Writes a struct ambit_asked. */
export function encodeAsked(into: Buffer, asked: AskedOptions): void {
  const { members } = LAYOUT.ambit_asked
  into.writeUInt32LE(asked.keepAlive ? 1 : 0, members.keep_alive)
  into.writeUInt32LE(asked.keepIdleS, members.keep_idle_s)
  into.writeUInt32LE(asked.keepIntervalS, members.keep_interval_s)
  into.writeUInt32LE(asked.keepProbes, members.keep_probes)
  into.writeUInt32LE(asked.userTimeoutMs, members.user_timeout_ms)
  into.writeUInt32LE(asked.trafficClass, members.traffic_class)
}

/** A u64 map key or value. */
export function encodeU64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(value)
  return bytes
}
