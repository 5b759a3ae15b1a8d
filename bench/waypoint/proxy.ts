// SPDX-License-Identifier: Apache-2.0
// The waypoint of the bench, a process of its own: the product's data plane with certificates and a view of the mesh of the bench's
// making, counting every request and writing a line for each to its standard output. Reads its settings as JSON from the file that argv[2] names; says
// "ready PORT" on descriptor 3, and ends when its standard input does.

import { readFileSync, writeSync } from 'node:fs'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import type { HttpRule } from '../../mesh/model/http-routes.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { IpAddress, SocketAddress } from '../../mesh/model/types.ts'
import { createBatchedLogger, createLogger } from '../../mesh/telemetry/log.ts'
import { socketEngine } from '../../test/support/engine.ts'
import { ip, sampleService, sampleWorkload, serviceKey } from '../../test/model/samples.ts'
import { WaypointAccessLog } from '../../waypoint/access-log.ts'
import type { Call } from '../../waypoint/listener/call.ts'
import { WaypointMetrics } from '../../waypoint/metrics.ts'
import { observeCalls } from '../../waypoint/observe-calls.ts'
import { dial } from '../../waypoint/upstream/dial.ts'
import { Waypoint } from '../../waypoint/waypoint.ts'
import { BACKEND_NAME, CLIENT_NAME, type Protocol, TARGET, WAYPOINT_NAME } from './parties.ts'

export interface ProxySettings {
  readonly certificate: WorkloadCertificate
  /** Where the backend's HBONE listens. */
  readonly backendPort: number
  readonly protocol: Protocol
  readonly rules: readonly HttpRule[]
}

const LOOPBACK = '127.0.0.1' as IpAddress
const MAX_TUNNELS = 50_000
/** Lines of one client are bounded (500 a second), those of Envoy are not: here each is written, as if of so many clients. */
const CLIENTS = 256

const settings = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as ProxySettings
const mesh = new MeshState({ network: '', rootNamespace: 'istio-system' })
const key = serviceKey('shop', BACKEND_NAME)
mesh.apply([
  {
    kind: 'service',
    service: sampleService(BACKEND_NAME, {
      waypoint: {
        destination: {
          kind: 'hostname',
          namespace: 'shop',
          hostname: `${WAYPOINT_NAME}.shop.svc.cluster.local`,
        },
        hbonePort: 15_008,
      },
      addresses: [{ network: '', address: ip(TARGET.address), prefixLength: undefined }],
      ports: [{ servicePort: TARGET.port, targetPort: 8_080, appProtocol: settings.protocol }],
    }),
  },
  {
    kind: 'workload',
    workload: sampleWorkload(CLIENT_NAME, { addresses: [LOOPBACK], serviceAccount: CLIENT_NAME }),
  },
  {
    kind: 'workload',
    workload: sampleWorkload(BACKEND_NAME, {
      addresses: [ip('10.244.1.1')],
      serviceAccount: BACKEND_NAME,
      services: new Map([
        [
          key,
          [
            {
              servicePort: TARGET.port,
              targetPort: 8_080,
              appProtocol: settings.protocol,
              family: 'any',
            },
          ],
        ],
      ]),
    }),
  },
  {
    kind: 'httpRoutes',
    routes: {
      key,
      service: key,
      port: undefined,
      clients: undefined,
      rules: settings.rules,
      connections: [],
    },
  },
])

const metrics = new WaypointMetrics({
  version: 'bench',
  tunnels: () => waypoint.tunnels,
  connections: () => ({ ...waypoint.connections }),
  meshSizes: () => ({ ...mesh.size }),
  others: () => [],
})
const observer = observeCalls({
  log: createLogger('waypoint', 'error'),
  accessLog: new WaypointAccessLog(
    { log: createBatchedLogger('access', 'info') },
    { filter: undefined, sample: 1 },
  ),
  metrics,
  trace: undefined,
})
let lines = 0
/** By client, so that a line costs no more than the line; all calls are alike. */
const seen: Call[] = []
const asOneOfMany = (call: Call): Call => {
  lines = (lines + 1) % CLIENTS
  return (seen[lines] ??= { ...call, source: { ...call.source, address: addressOf(lines) } })
}
const addressOf = (client: number): SocketAddress => ({
  address: ip(`10.1.${client >> 8}.${client & 255}`),
  port: 4_000,
})
const waypoint = new Waypoint({
  own: {
    gatewayName: WAYPOINT_NAME,
    namespace: 'shop',
    clusterDomain: 'cluster.local',
    network: '',
  },
  identity: settings.certificate.identity,
  trustDomain: 'cluster.local',
  trustDomainAliases: [],
  mesh,
  maxTunnels: MAX_TUNNELS,
  observer: {
    ...observer,
    request: (call, record) => observer.request(asOneOfMany(call), record),
  },
  audit: { admits: () => false, recordAdmitted: () => undefined },
  engine: socketEngine(),
  log: createLogger('waypoint', 'error'),
  self: () => undefined,
  dial: (_, how, signal) => dial({ address: LOOPBACK, port: settings.backendPort }, how, signal),
})
waypoint.setCertificate(settings.certificate)
writeSync(3, `ready ${await waypoint.listen({ host: LOOPBACK, port: 0 })}\n`)
process.stdin.on('end', () => process.exit(0)).resume()
