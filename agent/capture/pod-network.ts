// SPDX-License-Identifier: Apache-2.0
// What a pod's namespace gets on enrolment: listeners, and the state of pod-state.ts.

import { AmbitError } from '../../mesh/errors.ts'
import { NativeError } from '../../native/error.ts'
import { closeFd } from '../../native/libc.ts'
import { listenInNetns, type NetnsThread, type SysctlValue } from '../../native/netns.ts'
import type { OwnAddress } from '../../native/own-addresses.ts'
import type { RoutedNetworks } from '../../native/routed-networks.ts'
import type { KeptNetns } from '../../native/rtnetlink.ts'
import { MESH_PORTS } from '../../mesh/model/ports.ts'
import { closeListeners } from './listeners.ts'
import { keepRouting, ROUTING_NEEDS, routingClash, sysctlsFor } from './pod-state.ts'
import type { CapturePod, PodListeners } from './types.ts'

/**
 * A successor binds beside its predecessor; an application's accepted sockets do not stand in the way. The other options are
 * for the accepted sockets, which inherit them: so they cost no system calls for each.
 */
const LISTENER_OPTIONS = [
  'reuseAddress',
  'reusePort',
  'keepAlive',
  'noDelay',
  'urgentInline',
] as const

interface Endpoint {
  readonly role: keyof PodListeners
  readonly address: string
}

/**
 * The outbound listener takes any address: captured sockets arrive at 127.64.0.0/10, and device-bound ones at the
 * pod's own address. The inbound one is reached through sk_lookup only; so is HBONE's while the pod is captured, but a
 * pod that has left the mesh is called there without it. IPv6's inbound one comes first: it tells whether the pod has
 * IPv6 at all ([::] can be bound without).
 */
const ENDPOINTS: Readonly<Record<4 | 6, readonly Endpoint[]>> = {
  4: [
    { role: 'outbound', address: '0.0.0.0' },
    { role: 'inbound', address: '127.0.0.1' },
    { role: 'hbone', address: '0.0.0.0' },
  ],
  6: [
    { role: 'inbound', address: '::1' },
    { role: 'outbound', address: '::' },
    { role: 'hbone', address: '::' },
  ],
}

/** What was made in the namespace. */
export interface PodNetwork {
  readonly listeners: PodListeners
  /** fd of each listener by family, for the listener map. */
  readonly byFamily: ReadonlyMap<4 | 6, Readonly<Record<keyof PodListeners, number>>>
  /** Values the sysctls had before. */
  readonly formerSysctls: readonly SysctlValue[]
  /** Those of the namespace, as they were found. */
  readonly addresses: readonly OwnAddress[]
  /** Where its routes lead. */
  readonly networks: RoutedNetworks
}

/** Both, whatever addresses the pod has now: it may get some of the other family, and call out with it. */
const FAMILIES = [4, 6] as const

/** Makes listeners, then rule and route, then sysctls. When a step fails the listeners are closed, the rest is left. */
export async function preparePodNetwork(
  thread: NetnsThread,
  netnsFd: number,
  pod: CapturePod,
  storageMapFd: number,
): Promise<PodNetwork> {
  const byFamily = new Map<4 | 6, NonNullable<Opened>>()
  if (pod.mustHaveAddress === true) await proveAddress(thread, netnsFd, pod)
  try {
    // All at once: each answer that is waited for by itself costs a turn of two threads.
    const openAll = async (): Promise<readonly PromiseSettledResult<Opened>[]> => {
      const opened = await Promise.allSettled(
        FAMILIES.map((family) => openListeners(thread, netnsFd, pod, family, storageMapFd)),
      )
      for (const [index, family] of FAMILIES.entries()) {
        const made = opened[index]?.status === 'fulfilled' ? opened[index].value : undefined
        if (made !== undefined) byFamily.set(family, made)
      }
      return opened
    }
    let opened = await openAll()
    // Container runtimes set loopback up beside the CNI plugins, and may come to it later than we do. The pod must not be taken for one
    // without IPv6 then.
    if (opened.some(isWithoutFamily) && (await setLoopbackUp(thread, netnsFd))) {
      closeListenersOf(byFamily)
      byFamily.clear()
      opened = await openAll()
    }
    const refused = opened.find((each) => each.status === 'rejected')
    if (refused !== undefined) throw refused.reason
    const present = [...byFamily.keys()]
    if (present.length === 0)
      throw new AmbitError(
        'AMB_SYSCALL',
        `Cannot enrol pod ${pod.namespace}/${pod.name}: its namespace has no address family to listen on`,
      )
    // Before the sysctls: a clash must leave the pod as it was.
    const { addresses, networks } = await putUpRouting(thread, netnsFd, pod, present)
    const formerSysctls = await thread.writeSysctls(netnsFd, sysctlsFor(present))
    return { listeners: collect(byFamily), byFamily, formerSysctls, addresses, networks }
  } catch (thrown) {
    closeListenersOf(byFamily)
    throw thrown
  }
}

/** What a pod that leaves the mesh keeps: HBONE listeners, and what the answers to their connections need. */
export async function prepareLeavingNetwork(
  thread: NetnsThread,
  netnsFd: number,
  pod: CapturePod,
  storageMapFd: number,
): Promise<
  Pick<PodNetwork, 'listeners' | 'formerSysctls'> & { readonly families: readonly (4 | 6)[] }
> {
  const hbone: number[] = []
  const present: (4 | 6)[] = []
  try {
    for (const family of FAMILIES) {
      if (family === 6 && !(await hasIpv6(thread, netnsFd))) continue
      for (const endpoint of ENDPOINTS[family])
        if (endpoint.role === 'hbone')
          hbone.push(await listenAt(thread, netnsFd, endpoint, storageMapFd))
      present.push(family)
    }
    await putUpRouting(thread, netnsFd, pod, present)
    const formerSysctls = await thread.writeSysctls(netnsFd, sysctlsFor(present))
    return { listeners: { outbound: [], inbound: [], hbone }, families: present, formerSysctls }
  } catch (thrown) {
    for (const fd of hbone) closeFd(fd)
    throw portError(pod, MESH_PORTS.hbone, thrown)
  }
}

/** Puts up what keeps the app's answers in the pod. */
async function putUpRouting(
  thread: NetnsThread,
  netnsFd: number,
  pod: CapturePod,
  families: readonly (4 | 6)[],
): Promise<KeptNetns> {
  try {
    return await keepRouting(thread, netnsFd, families)
  } catch (thrown) {
    const clash = routingClash(thrown)
    if (clash === undefined) throw thrown
    throw new AmbitError(
      'AMB_ENROLMENT',
      `Cannot enrol pod ${pod.namespace}/${pod.name}: its own routing rule "${clash}" stands against the mesh's, which needs ${ROUTING_NEEDS}`,
      { cause: thrown },
    )
  }
}

/** Closes listeners that were made in vain. */
export function closeListenersOf(byFamily: PodNetwork['byFamily']): void {
  closeListeners(collect(byFamily))
}

/** Only addresses of the namespace can be bound in it. */
async function proveAddress(thread: NetnsThread, netnsFd: number, pod: CapturePod): Promise<void> {
  const [address = ''] = pod.addresses
  try {
    closeFd(await listenInNetns({ netns: netnsFd, address, port: 0, kind: 'udp' }, thread))
  } catch (thrown) {
    if (!isFamilyMissing(thrown)) throw thrown
    throw new AmbitError(
      'AMB_ENROLMENT',
      `Cannot enrol pod ${pod.namespace}/${pod.name}: the network namespace found for it does not have its address ${address}`,
      { cause: thrown },
    )
  }
}

/** The listeners of one family; undefined when the pod has IPv6 switched off. */
type Opened = Readonly<Record<keyof PodListeners, number>> | undefined

function isWithoutFamily(opened: PromiseSettledResult<Opened>): boolean {
  return opened.status === 'rejected' ? isFamilyMissing(opened.reason) : opened.value === undefined
}

/** Sets loopback up; false when it was. */
async function setLoopbackUp(thread: NetnsThread, netnsFd: number): Promise<boolean> {
  const { repaired } = await keepRouting(thread, netnsFd, [])
  return repaired.length > 0
}

async function openListeners(
  thread: NetnsThread,
  netnsFd: number,
  pod: CapturePod,
  family: 4 | 6,
  storageMapFd: number,
): Promise<Opened> {
  const endpoints = ENDPOINTS[family]
  const opened = await Promise.allSettled(
    endpoints.map((endpoint) => listenAt(thread, netnsFd, endpoint, storageMapFd)),
  )
  const made: Partial<Record<keyof PodListeners, number>> = {}
  let refused: { readonly role: keyof PodListeners; readonly reason: unknown } | undefined
  for (const [index, { role }] of endpoints.entries()) {
    const result = opened[index]
    if (result?.status === 'fulfilled') made[role] = result.value
    else refused ??= { role, reason: result?.reason }
  }
  if (refused === undefined) return made as Opened
  for (const fd of Object.values(made)) closeFd(fd)
  const { role, reason } = refused
  if (family === 6 && role === 'inbound' && isFamilyMissing(reason)) return undefined
  throw portError(pod, MESH_PORTS[role], reason)
}

function listenAt(
  thread: NetnsThread,
  netns: number,
  { role, address }: Endpoint,
  storageMapFd: number,
): Promise<number> {
  const port = MESH_PORTS[role]
  // Nobody else may bind these ports in a captured pod (bpf/bind.h).
  const spec = { netns, address, port, options: LISTENER_OPTIONS, exemptInMapFd: storageMapFd }
  return listenInNetns(spec, thread)
}

async function hasIpv6(thread: NetnsThread, netns: number): Promise<boolean> {
  try {
    closeFd(await listenInNetns({ netns, address: '::1', port: 0, kind: 'udp' }, thread))
    return true
  } catch (thrown) {
    if (isFamilyMissing(thrown)) return false
    throw thrown
  }
}

function isFamilyMissing(thrown: unknown): boolean {
  return (
    thrown instanceof NativeError &&
    (thrown.errnoName === 'EADDRNOTAVAIL' || thrown.errnoName === 'EAFNOSUPPORT')
  )
}

function portError(pod: CapturePod, port: number, thrown: unknown): unknown {
  if (!(thrown instanceof NativeError) || thrown.errnoName !== 'EADDRINUSE') return thrown
  return new AmbitError(
    'AMB_PORT_TAKEN',
    `Cannot enrol pod ${pod.namespace}/${pod.name}: port ${port} is in use inside the pod, and the mesh needs it`,
    { cause: thrown },
  )
}

function collect(
  byFamily: ReadonlyMap<4 | 6, Readonly<Record<keyof PodListeners, number>>>,
): PodListeners {
  const all = [...byFamily.values()]
  return {
    outbound: all.map((fds) => fds.outbound),
    inbound: all.map((fds) => fds.inbound),
    hbone: all.map((fds) => fds.hbone),
  }
}
