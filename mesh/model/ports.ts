// SPDX-License-Identifier: Apache-2.0
// The ports the mesh owns inside a pod, by Istio's numbers; bpf/ambit.h has them once more for the kernel's side, and
// test/capture/layout.test.ts compares the two. They are never a legal target of relayed traffic: a proxy that connected to one would
// call itself.

export const MESH_PORTS = { outbound: 15001, inbound: 15006, hbone: 15008 } as const

const ILLEGAL_TARGETS: ReadonlySet<number> = new Set(Object.values(MESH_PORTS))

/** Whether a port is one of the mesh's own listeners and so must never be dialled on behalf of anyone. */
export function isMeshPort(port: number): boolean {
  return ILLEGAL_TARGETS.has(port)
}
