// SPDX-License-Identifier: Apache-2.0
// Why we ended a connection under its tunnels, told to each of them as the code of a reset. They are no codes of the wire, which
// have 32 bits, so no peer can say them.

import type { EndReason } from '../telemetry/end-reason.ts'

export const CUT_CODE = {
  certificateExpired: 0x1_0000_0001,
  peerDistrusted: 0x1_0000_0002,
  peerSilent: 0x1_0000_0003,
  certificateRevoked: 0x1_0000_0004,
} as const satisfies Partial<Record<EndReason, number>>

/** Why a connection that stood may not go on; `peerDistrusted` unless said otherwise. */
export type DistrustReason = 'peerDistrusted' | 'certificateRevoked'

/** The end reason that a code of ours stands for; undefined for codes of the wire. */
export function endReasonOfCut(code: number): EndReason | undefined {
  switch (code) {
    case CUT_CODE.certificateExpired:
      return 'certificateExpired'
    case CUT_CODE.peerDistrusted:
      return 'peerDistrusted'
    case CUT_CODE.certificateRevoked:
      return 'certificateRevoked'
    case CUT_CODE.peerSilent:
      return 'peerSilent'
    default:
      return undefined
  }
}
