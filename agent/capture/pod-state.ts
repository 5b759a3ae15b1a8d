// SPDX-License-Identifier: Apache-2.0
// The state inside a pod's namespace that the agent depends on and the pod's owner may change: the rule and route that keep
// replies to the agent's transparent connections inside the pod, loopback, sysctls. Put up, put right, given back.

import { NativeError } from '../../native/error.ts'
import type { NetnsThread, SysctlValue } from '../../native/netns.ts'
import { type KeptNetns, RULE_CLASH } from '../../native/rtnetlink.ts'
import { UPSTREAM_MARK } from './data-plane-sockets.ts'

/** Istio's numbers, so that operators who know them find them: mark 0x111 of mask 0xfff, table 100. The priority is lower where the pod has rules of its own. */
const MARK_ROUTE = { mark: UPSTREAM_MARK, mask: 0xfff, table: 100, priority: 32764 } as const

/** The kernel keeps TCP's switches under ipv4 only; they hold for both families, so an IPv6-only pod needs them too. */
const TCP_SYSCTLS: readonly SysctlValue[] = [
  // The application's accepted socket takes over the mark of the agent's SYN, so its replies match the rule.
  { path: 'net/ipv4/tcp_fwmark_accept', value: '1' },
  // Connections queued at a predecessor's 15001 listener move to its successor's when it closes (5.14).
  { path: 'net/ipv4/tcp_migrate_req', value: '1' },
  // The agent calls the application once per accepted connection, from the client's one address: its 28,000 ports
  // must not each wait out a minute of TIME_WAIT.
  { path: 'net/ipv4/tcp_tw_reuse', value: '1' },
]

/** A closed port answers the agent at once: the kernel's RST carries the mark too. */
const REFLECT_SYSCTL: Readonly<Record<4 | 6, SysctlValue>> = {
  4: { path: 'net/ipv4/fwmark_reflect', value: '1' },
  6: { path: 'net/ipv6/fwmark_reflect', value: '1' },
}

/** What a rule of the pod's own must leave alone, in words. */
export const ROUTING_NEEDS = `mark 0x${MARK_ROUTE.mark.toString(16)} and table ${MARK_ROUTE.table}`

/** The sysctls to be written for these families. */
export function sysctlsFor(families: readonly (4 | 6)[]): readonly SysctlValue[] {
  return [...TCP_SYSCTLS, ...families.map((family) => REFLECT_SYSCTL[family])]
}

/** Puts rule, route and loopback up, or right; says what was amiss and which addresses there are. */
export function keepRouting(
  thread: NetnsThread,
  netnsFd: number,
  families: readonly (4 | 6)[],
): Promise<KeptNetns> {
  return thread.keep(netnsFd, families, MARK_ROUTE)
}

/** The pod's own rule that ours cannot live beside, if that is what was thrown. */
export function routingClash(thrown: unknown): string | undefined {
  return thrown instanceof NativeError && thrown.call === RULE_CLASH ? thrown.detail : undefined
}

/** Puts sysctls right; says which were not. */
export async function keepSysctls(
  thread: NetnsThread,
  netnsFd: number,
  families: readonly (4 | 6)[],
): Promise<readonly string[]> {
  const wanted = sysctlsFor(families)
  const found = await thread.writeSysctls(netnsFd, wanted)
  return found.flatMap(({ path, value }, index) =>
    value === wanted[index]?.value ? [] : [`${path.replaceAll('/', '.')} (it was ${value})`],
  )
}

/** Takes rule and route out and gives the sysctls their former values. */
export async function restorePodNetwork(
  thread: NetnsThread,
  netnsFd: number,
  families: readonly (4 | 6)[],
  formerSysctls: readonly SysctlValue[],
): Promise<void> {
  await thread.deleteMarkRoute(netnsFd, families, MARK_ROUTE)
  await thread.writeSysctls(netnsFd, formerSysctls)
}
