// SPDX-License-Identifier: Apache-2.0
// What a workload is to the Services whose slices list it: at which ports, over which family, and whether ready or leaving. Pure.

import type { Memberships, ServiceKey, WorkloadPort } from '../../mesh/model/types.ts'
import type { Listing } from './listing.ts'
import type { AddressFamily, Fitness } from './slice.ts'

/** A place where a workload is listed. */
export interface Listed {
  readonly listing: Listing
  readonly fitness: Fitness
}

/** Fit for new connections, and fit when there is nothing better. */
export interface Belonging {
  readonly services: Memberships
  readonly leaving: Memberships
}

const NOWHERE: Memberships = new Map()

/**
 * What a workload may belong to, in all. Anybody may write Services and slices that lead to any pod, and those of another namespace
 * must not make a pod's resource one that agents refuse for its size, nor the controller hold megabytes for each pod.
 */
const MOST_SERVICES = 1_000
const MOST_PORTS = 10_000

/**
 * Puts together what slices say. Over the bounds those of the workload's own namespace come first.
 *
 * @param families how many families of addresses the workload has
 */
export function belongingOf(
  namespace: string,
  families: number,
  listed: readonly Listed[],
): Belonging {
  const services = new Map<ServiceKey, readonly WorkloadPort[]>()
  const leaving = new Map<ServiceKey, readonly WorkloadPort[]>()
  let [rooms, room] = [MOST_SERVICES, MOST_PORTS]
  const add = (
    into: Map<ServiceKey, readonly WorkloadPort[]>,
    key: ServiceKey,
    ports: readonly WorkloadPort[] | undefined,
  ): void => {
    if (ports === undefined || rooms === 0 || ports.length > room) return
    rooms -= 1
    room -= ports.length
    into.set(key, ports)
  }
  for (const [key, places] of byService(namespace, listed)) {
    const isDual = places.some(({ listing }) => listing.isDual)
    const ports = portsOf(places, isDual ? families : 1)
    add(services, key, ports.ready)
    if (ports.ready === undefined || ports.leaving?.length !== 0) add(leaving, key, ports.leaving)
  }
  return { services, leaving: leaving.size === 0 ? NOWHERE : leaving }
}

function byService(
  namespace: string,
  listed: readonly Listed[],
): ReadonlyMap<ServiceKey, readonly Listed[]> {
  const places = new Map<ServiceKey, Listed[]>()
  for (const isOwn of [true, false])
    for (const each of listed)
      if ((each.listing.namespace === namespace) === isOwn && each.fitness !== 'unfit')
        for (const key of each.listing.keys) {
          const others = places.get(key)
          if (others === undefined) places.set(key, [each])
          else others.push(each)
        }
  return places
}

interface FitPorts {
  readonly ready: readonly WorkloadPort[] | undefined
  readonly leaving: readonly WorkloadPort[] | undefined
}

/**
 * The ports of one Service that lead to a workload, which has addresses of so many of its families. Nearly always one place, or one a family that say the same: then they are the
 * Service's list.
 */
function portsOf(places: readonly Listed[], families: number): FitPorts {
  const [first] = places
  if (first === undefined) return { ready: undefined, leaving: undefined }
  const { ports } = first.listing
  const isSame = places.every(
    ({ listing, fitness }) => fitness === first.fitness && isSamePorts(listing.ports, ports),
  )
  if (isSame && new Set(places.map(({ listing }) => listing.family)).size === families)
    return first.fitness === 'ready'
      ? { ready: ports, leaving: undefined }
      : { ready: undefined, leaving: ports }
  return mergedPorts(places, families)
}

type FitFamilies = Map<AddressFamily, Fitness>

/** Each port and target once, in each family as fit as the fittest who lists it there. */
function mergedPorts(places: readonly Listed[], families: number): FitPorts {
  const byTarget = new Map<string, { readonly port: WorkloadPort; readonly fit: FitFamilies }>()
  for (const { listing, fitness } of places)
    for (const port of listing.ports) {
      const key = `${port.servicePort}:${port.targetPort}`
      const known = byTarget.get(key) ?? { port, fit: new Map() as FitFamilies }
      byTarget.set(key, known)
      if (known.fit.get(listing.family) !== 'ready') known.fit.set(listing.family, fitness)
    }
  const fitPorts = (wanted: Fitness): readonly WorkloadPort[] | undefined => {
    // A Service without ports, and one whose ports this workload does not serve, is a Service all the same.
    if (!places.some(({ fitness }) => fitness === wanted)) return undefined
    return [...byTarget.values()].flatMap(({ port, fit }) => {
      const where = [...fit].filter(([, fitness]) => fitness === wanted).map(([family]) => family)
      if (where.length === families) return [port]
      return where.map((family) => ({ ...port, family }))
    })
  }
  return { ready: fitPorts('ready'), leaving: fitPorts('leaving') }
}

function isSamePorts(left: readonly WorkloadPort[], right: readonly WorkloadPort[]): boolean {
  return (
    left === right ||
    (left.length === right.length &&
      left.every(
        ({ servicePort, targetPort }, at) =>
          servicePort === right[at]?.servicePort && targetPort === right[at].targetPort,
      ))
  )
}
