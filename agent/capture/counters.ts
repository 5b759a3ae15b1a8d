// SPDX-License-Identifier: Apache-2.0
// Why the BPF programs let through, captured or refused: the names of `enum ambit_reason` (bpf/ambit.h) in its order,
// and their sums over all CPUs. Order and names are compared with BTF when the object is opened.

import type { BpfMap } from '../../native/bpf-map.ts'

/** Counter names; `outCaptured4` is AMBIT_OUT_CAPTURED4, and so on. */
export const CAPTURE_REASONS = [
  'outCaptured4',
  'outCaptured6',
  'outPassNotTcp',
  'outPassLocal',
  'outPassExempt',
  'outPassFailOpen',
  'outDenyNoAgent',
  'outDenyNoStorage',
  'outDenyNoFamily',
  'outProbe',
  'pendingPublished',
  'pendingFull',
  'pendingHandedOver',
  'pendingMissing',
  'pendingNoStorage',
  'trustAdded',
  'trustFull',
  'trustForgotten',
  'inPassLocal',
  'inPassTrusted',
  'inPassFailOpen',
  'inAssignedPlaintext',
  'inAssignedHbone',
  'inDropNoAgent',
  'inDropAssignFailed',
  'bindReuseSet',
  'bindReuseFailed',
  'bindDenyMeshPort',
  'pendingPodFull',
  'noSocket',
  'outDenyTupleTaken',
  'outDenyNoRoute',
] as const

export type CaptureReason = (typeof CAPTURE_REASONS)[number]
export type CaptureCounters = Readonly<Record<CaptureReason, number>>

/** The enum constant of a counter: `outDenyNoAgent` is AMBIT_OUT_DENY_NO_AGENT. */
export function enumConstant(reason: CaptureReason): string {
  return `AMBIT_${reason.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`
}

/** Reads all counters; each is monotonic while the map stays pinned. */
export function readCounters(map: BpfMap): CaptureCounters {
  const counters: Partial<Record<CaptureReason, number>> = {}
  const key = Buffer.alloc(4)
  for (const [index, reason] of CAPTURE_REASONS.entries()) {
    key.writeUInt32LE(index)
    const perCpu = map.lookupPerCpu64(key) ?? []
    counters[reason] = Number(perCpu.reduce((sum, value) => sum + value, 0n))
  }
  return counters as CaptureCounters
}
