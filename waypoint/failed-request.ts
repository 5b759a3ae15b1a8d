// SPDX-License-Identifier: Apache-2.0
// Which requests count as failed: for lines that no sample leaves out, and for what a waypoint tells of its traffic. Pure.

import { grpcFault } from './exchange/grpc.ts'
import type { RequestRecord, ResponseFlag } from './exchange/types.ts'

const FIRST_SERVER_ERROR = 500
/** By these an answer was cut that had begun well: its client got a part of it. */
const CUT_BY_APP: ReadonlySet<ResponseFlag> = new Set(['UC', 'UR', 'UT', 'UPE'])

/** Whether the app, or the way to it, is at fault. Hot: once a request. */
export function hasFailed(
  record: Pick<RequestRecord, 'status' | 'flag' | 'isGrpc' | 'grpcStatus'>,
): boolean {
  const { status, flag } = record
  if (status >= FIRST_SERVER_ERROR || status === 0) return true
  if (flag !== '-' && CUT_BY_APP.has(flag)) return true
  return grpcFault(record)?.isServers === true
}
