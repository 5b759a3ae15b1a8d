// SPDX-License-Identifier: Apache-2.0
// The waypoint's state as plain data: GET /config_dump. Never holds a key.

import type { CertificateStatus } from '../mesh/identity/certificate-manager.ts'
import { dumpCertificate } from '../mesh/identity/dumped-certificate.ts'
import { formatSocketAddress } from '../mesh/model/address.ts'
import { dumpGateway } from '../mesh/model/gateway.ts'
import type { MeshState } from '../mesh/model/mesh-state.ts'
import type { HttpRoutes } from '../mesh/model/http-routes.ts'
import { waypointsOf } from '../mesh/model/service-waypoints.ts'
import type { GatewayAddress } from '../mesh/model/types.ts'
import { encodeMeshState } from '../mesh/xds/wire-state.ts'
import { VERSION } from '../mesh/program/version.ts'
import type { DiscoveryReport } from '../mesh/xds/discovery-health.ts'
import type { WaypointConfig } from './config.ts'
import type { OpenCall } from './listener/call.ts'

/** Open calls that are told one by one: there may be 50,000. */
const MOST_CALLS = 1_000

export interface ConfigDumpSources {
  readonly config: WaypointConfig
  readonly mesh: MeshState
  readonly certificates: readonly CertificateStatus[]
  readonly discovery: DiscoveryReport
  /** What the waypoint waits for before it is ready. */
  readonly pending: readonly string[]
  readonly tunnels: number
  readonly connections: Readonly<Record<string, number>>
  readonly openCalls: () => Iterable<OpenCall>
  /** Counts since the start. */
  readonly traffic: Readonly<Record<string, number>>
  /** Whether something that is bound so is bound to this waypoint. */
  readonly isOwn: (waypoint: GatewayAddress | undefined) => boolean
}

/** Makes the whole dump. Of the mesh what is bound here is told, and what is done with requests to it; with resources the mesh in its own encoding. */
export function configDump(
  sources: ConfigDumpSources,
  { withResources = false }: { readonly withResources?: boolean } = {},
): Record<string, unknown> {
  const { config, mesh, certificates, discovery, pending, tunnels, connections, isOwn } = sources
  const calls = dumpCalls(sources.openCalls(), performance.now())
  const services = [...mesh.services()].filter((service) => waypointsOf(service).some(isOwn))
  const workloads = [...mesh.workloads()].filter(({ waypoint }) => isOwn(waypoint))
  return {
    services: services.map(({ key, ports, waypoint }) => ({
      key,
      ports,
      waypoint: dumpGateway(waypoint),
      endpoints: mesh
        .endpoints(key)
        .map(({ uid, addresses, status }) => ({ uid, addresses, status })),
    })),
    workloads: workloads.map(({ uid, addresses }) => ({ uid, addresses })),
    httpRoutes: mesh.httpRoutes
      .snapshot()
      .flatMap((change) => (change.kind === 'httpRoutes' ? [withoutKeys(change.routes)] : [])),
    backendTls: [...mesh.backendTls],
    policies: [...mesh.waypointPolicies],
    unreadablePolicies: [...mesh.waypointPolicies.allUnreadable()],
    certificates: certificates.map(dumpCertificate),
    discovery,
    pending,
    tunnels,
    connections,
    ...calls,
    traffic: sources.traffic,
    version: { version: VERSION },
    config,
    ...(withResources ? { resources: encodeMeshState(mesh, withBlankKeys) } : {}),
  }
}

/** The oldest of them, and how many there are beside. */
function dumpCalls(open: Iterable<OpenCall>, now: number) {
  const openCalls: object[] = []
  let moreCalls = 0
  for (const { call, servedAs, endpoint } of open) {
    if (openCalls.length >= MOST_CALLS) {
      moreCalls += 1
      continue
    }
    const { source, service, target, startedAt } = call
    openCalls.push({
      src: formatSocketAddress(source.address),
      srcIdentity: source.identity,
      dst: formatSocketAddress(target),
      service: service?.key,
      servedAs,
      endpoint: endpoint && formatSocketAddress(endpoint),
      seconds: Math.round((now - startedAt) / 1_000),
    })
  }
  return { openCalls, moreCalls }
}

/** Of the form of a key, and none: 32 bytes of zero. */
const BLANK_KEY = Buffer.alloc(32).toString('base64url')

/** The same as withoutKeys in the encoding, which wants a key. */
function withBlankKeys(routes: HttpRoutes): HttpRoutes {
  const rules = routes.rules.map((rule) =>
    rule.session === undefined ? rule : { ...rule, session: { ...rule.session, key: BLANK_KEY } },
  )
  return { ...routes, rules }
}

/** Keys of sessions are no one's to read. */
function withoutKeys(routes: HttpRoutes): unknown {
  const rules = routes.rules.map(({ session, ...rule }) => {
    if (session === undefined) return rule
    const { key: _key, ...shown } = session
    return { ...rule, session: shown }
  })
  return { ...routes, rules }
}
