// SPDX-License-Identifier: Apache-2.0
// The ports the mesh owns inside a pod. They are never a legal target of relayed traffic: a proxy that connected
// to one would call itself.

const OUTBOUND_PORT = 15001
const INBOUND_PLAINTEXT_PORT = 15006
export const HBONE_PORT = 15008

const ILLEGAL_TARGETS: ReadonlySet<number> = new Set([
  OUTBOUND_PORT,
  INBOUND_PLAINTEXT_PORT,
  HBONE_PORT,
])

/** Whether a port is one of the mesh's own listeners and so must never be dialled on behalf of anyone. */
export function isMeshPort(port: number): boolean {
  return ILLEGAL_TARGETS.has(port)
}
