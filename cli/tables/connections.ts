// SPDX-License-Identifier: Apache-2.0
// The open connections of a node's pods, in istioctl's columns. Addresses are shown by the names that they have in the mesh.

import type { WaypointAnswer } from '../cluster/waypoint-dumps.ts'
import type { ConfigDump, DumpedConnection, DumpedPod } from '../dump/config-dump.ts'
import { byTexts, type Table } from './table.ts'

export interface ConnectionFilter {
  readonly workloadNamespace?: string
  readonly direction?: 'inbound' | 'outbound'
  /** Addresses as they are. */
  readonly raw?: boolean
}

/** The pods that pass with their connections of the direction, by namespace and name. */
export function podsWithConnections(
  { workloadState }: Pick<ConfigDump, 'workloadState'>,
  { workloadNamespace, direction }: ConnectionFilter,
): readonly DumpedPod[] {
  return Object.values(workloadState)
    .filter(({ info }) => workloadNamespace === undefined || info.namespace === workloadNamespace)
    .map((pod) => ({
      ...pod,
      connections: {
        inbound: direction === 'outbound' ? [] : (pod.connections?.inbound ?? []),
        outbound: direction === 'inbound' ? [] : (pod.connections?.outbound ?? []),
      },
    }))
    .toSorted(byTexts(({ info }) => [info.namespace, info.name]))
}

/** The table of an agent's connections. */
export function connectionTable(dump: ConfigDump, filter: ConnectionFilter): Table {
  const named = filter.raw === true ? (address: string) => address : namer(dump)
  const show = (address: string | undefined): string =>
    address === undefined ? '' : named(address)
  const rows: (readonly string[])[] = []
  for (const { info, connections } of podsWithConnections(dump, filter)) {
    const name = `${info.name}.${info.namespace}`
    const row = (
      way: string,
      local: string,
      remote: string,
      target: string,
      of: DumpedConnection,
    ) => rows.push([name, way, local, remote, target, of.protocol ?? ''])
    for (const each of connections?.inbound ?? [])
      row('Inbound', show(each.actualDst), show(each.src), each.originalDst ?? '', each)
    for (const each of connections?.outbound ?? [])
      row('Outbound', show(each.src), show(each.actualDst), show(each.originalDst), each)
  }
  return {
    heading: ['WORKLOAD', 'DIRECTION', 'LOCAL', 'REMOTE', 'REMOTE TARGET', 'PROTOCOL'],
    rows,
  }
}

/** A row for each open call of a waypoint that passes; of those beyond what it tells, one that counts them. */
export function waypointConnectionRows(
  waypoints: readonly WaypointAnswer[],
  names: Pick<ConfigDump, 'services' | 'workloads'>,
  { workloadNamespace, direction, raw }: ConnectionFilter,
): Table['rows'] {
  if (direction === 'outbound') return []
  const named = raw === true ? (address: string) => address : namer(names)
  return waypoints.flatMap(({ namespace, pod, answer }) => {
    if (!answer.ok || (workloadNamespace !== undefined && namespace !== workloadNamespace))
      return []
    const name = `${pod}.${namespace}`
    const { openCalls, moreCalls } = answer.value
    return [
      ...openCalls.map(({ src, dst, servedAs, endpoint }) => [
        name,
        'Waypoint',
        endpoint === undefined ? '' : named(endpoint),
        named(src),
        named(dst),
        `HBONE, ${SERVED_WORDS[servedAs]}`,
      ]),
      ...(moreCalls > 0 ? [[name, 'Waypoint', '', `and ${moreCalls} more`, '', 'HBONE']] : []),
    ]
  })
}

const SERVED_WORDS = {
  requests: 'requests',
  bytes: 'as it is',
  undecided: 'not known yet',
} as const

/** Names by address: Services' first, as istioctl has them. */
function namer({
  services,
  workloads,
}: Pick<ConfigDump, 'services' | 'workloads'>): (address: string) => string {
  const names = new Map<string, string>()
  for (const { workloadIps, name, namespace } of workloads)
    for (const ip of workloadIps) names.set(ip, `${name}.${namespace}`)
  for (const { vips, hostname } of services)
    for (const vip of vips) names.set(vip.slice(vip.indexOf('/') + 1), hostname)
  return (address) => {
    const colon = address.lastIndexOf(':')
    const name = names.get(address.slice(0, colon).replace(/^\[|\]$/g, ''))
    return name === undefined ? address : name + address.slice(colon)
  }
}
