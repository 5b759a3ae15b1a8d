// SPDX-License-Identifier: Apache-2.0
// What a kernel can do, found out by doing it: tiny programs are loaded and attached in a scratch cgroup and a scratch
// namespace. Versions are for the message only; distributions backport.

import { closeSync, mkdirSync, openSync, rmdirSync } from 'node:fs'
import { attachCgroup, attachNetns } from './bpf-link.ts'
import { NativeError } from './error.ts'
import { closeFd, netnsCookieOfSocket } from './libc.ts'
import type { NetnsThread } from './netns.ts'
import { loadProgram } from './program-text.ts'
import { openSocket } from './socket-spec.ts'

/** Where probes attach: nothing runs in them. */
export interface ProbePlace {
  readonly cgroupFd: number
  readonly netnsFd: number
}

/** Something a kernel may lack. */
export interface KernelFeature {
  readonly name: string
  /** The first mainline kernel that has it. */
  readonly since: string
  /** Throws NativeError when the kernel refuses. */
  readonly probe: (place: ProbePlace) => void
}

/** A feature the kernel refused, and how. */
export interface MissingFeature {
  readonly name: string
  readonly since: string
  readonly reason: string
}

// linux/bpf.h
const PROG_TYPE = { sockOps: 13, cgroupSockAddr: 18, skLookup: 30 } as const
const ATTACH = {
  sockOps: 3,
  inet4Connect: 10,
  inet4Getpeername: 29,
  inet4Getsockname: 31,
  skLookup: 36,
} as const
const HELPER = { getNetnsCookie: 122, setRetval: 187 } as const
const BPF_LDX_MEM_W = 0x61
const BPF_MOV64_IMM = 0xb7
const BPF_CALL = 0x85
const BPF_EXIT = 0x95
const REGISTER_0 = 0
const REGISTER_1 = 1

/** One instruction: code, destination register, immediate value. */
function instruction(code: number, register: number, immediate: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes[0] = code
  bytes[1] = register
  bytes.writeInt32LE(immediate, 4)
  return bytes
}

/** Of struct bpf_sk_lookup. */
const SK_LOOKUP_INGRESS_IFINDEX = 64

/** Reads a word of the context into register 0. */
function readContext32(offset: number): Buffer {
  const bytes = instruction(BPF_LDX_MEM_W, (REGISTER_1 << 4) | REGISTER_0, 0)
  bytes.writeInt16LE(offset, 2)
  return bytes
}

const RETURN_ONE = [instruction(BPF_MOV64_IMM, REGISTER_0, 1), instruction(BPF_EXIT, 0, 0)]

/** Calls a helper with the context as its argument and returns 1. */
function callWithContext(helper: number): readonly Buffer[] {
  return [instruction(BPF_CALL, 0, helper), ...RETURN_ONE]
}

function load(type: number, attachType: number, instructions: readonly Buffer[]): number {
  return loadProgram('ambit_probe', type, attachType, Buffer.concat(instructions))
}

function tryCgroup(
  place: ProbePlace,
  type: number,
  attachType: number,
  instructions = RETURN_ONE,
  isPreordered = false,
): void {
  const program = load(type, attachType, instructions)
  try {
    closeFd(attachCgroup(program, place.cgroupFd, attachType, isPreordered))
  } finally {
    closeFd(program)
  }
}

/** Loads a cgroup program that calls a helper of this number: the way to ask for one helper. */
export function helperFeature(name: string, since: string, helper: number): KernelFeature {
  return {
    name,
    since,
    probe: (place) =>
      tryCgroup(place, PROG_TYPE.sockOps, ATTACH.sockOps, [...callWithContext(helper)]),
  }
}

/** What capture cannot do without. */
export const REQUIRED_FEATURES: readonly KernelFeature[] = [
  {
    name: 'BPF links on cgroups (connect hooks)',
    since: '5.7',
    probe: (place) => tryCgroup(place, PROG_TYPE.cgroupSockAddr, ATTACH.inet4Connect),
  },
  {
    name: 'getpeername hooks',
    since: '5.8',
    probe: (place) => tryCgroup(place, PROG_TYPE.cgroupSockAddr, ATTACH.inet4Getpeername),
  },
  {
    name: 'getsockname hooks',
    since: '5.8',
    probe: (place) => tryCgroup(place, PROG_TYPE.cgroupSockAddr, ATTACH.inet4Getsockname),
  },
  {
    name: 'sk_lookup programs on network namespaces',
    since: '5.9',
    probe: ({ netnsFd }) => {
      const program = load(PROG_TYPE.skLookup, ATTACH.skLookup, RETURN_ONE)
      try {
        closeFd(attachNetns(program, netnsFd, ATTACH.skLookup))
      } finally {
        closeFd(program)
      }
    },
  },
  {
    name: 'SO_NETNS_COOKIE',
    since: '5.14',
    probe: () => {
      const fd = openSocket({ family: 4, kind: 'udp' })
      try {
        netnsCookieOfSocket(fd)
      } finally {
        closeFd(fd)
      }
    },
  },
  helperFeature('bpf_get_netns_cookie() in sockops programs', '5.15', HELPER.getNetnsCookie),
]

/** A refused connect can carry ENETUNREACH in place of EPERM. */
export const SET_RETVAL: KernelFeature = {
  name: 'bpf_set_retval() in connect hooks',
  since: '5.18',
  probe: (place) =>
    tryCgroup(place, PROG_TYPE.cgroupSockAddr, ATTACH.inet4Connect, [
      instruction(BPF_MOV64_IMM, REGISTER_1, 0),
      instruction(BPF_CALL, 0, HELPER.setRetval),
      ...RETURN_ONE,
    ]),
}

/** sk_lookup programs can tell a packet from another program's question. */
export const INGRESS_IFINDEX: KernelFeature = {
  name: 'ingress_ifindex in sk_lookup programs',
  since: '5.17',
  probe: () =>
    closeFd(
      load(PROG_TYPE.skLookup, ATTACH.skLookup, [
        readContext32(SK_LOOKUP_INGRESS_IFINDEX),
        ...RETURN_ONE,
      ]),
    ),
}

/** Our hooks run before those attached earlier. */
export const PREORDER: KernelFeature = {
  name: 'BPF_F_PREORDER on cgroup links',
  since: '6.15',
  probe: (place) =>
    tryCgroup(place, PROG_TYPE.cgroupSockAddr, ATTACH.inet4Connect, RETURN_ONE, true),
}

/**
 * Tries each feature in a scratch cgroup below `cgroupPath` and a scratch namespace; gives those the kernel refused.
 * Throws NativeError when the scratch places cannot be made.
 */
export async function missingFeatures(
  cgroupPath: string,
  thread: NetnsThread,
  features: readonly KernelFeature[],
): Promise<readonly MissingFeature[]> {
  const scratch = `${cgroupPath}/ambit-probe-${process.pid}`
  mkdirSync(scratch, { recursive: true })
  const cgroupFd = openSync(scratch, 'r')
  const netnsFd = await thread.create()
  try {
    return features.flatMap(({ name, since, probe }) => {
      try {
        probe({ cgroupFd, netnsFd })
        return []
      } catch (thrown) {
        if (!(thrown instanceof NativeError)) throw thrown
        return [{ name, since, reason: thrown.message }]
      }
    })
  } finally {
    closeFd(netnsFd)
    closeSync(cgroupFd)
    rmdirSync(scratch)
  }
}
