// SPDX-License-Identifier: Apache-2.0
// The program as its Deployment runs it: what it waits for, what it says of itself, and how it goes.

import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { connect } from 'node:net'
import { buffer } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { CertificateManager } from '../../mesh/identity/certificate-manager.ts'
import { SignedCertificates } from '../../mesh/identity/signed-certificates.ts'
import { createHbonePool } from '../../mesh/hbone/pool.ts'
import { socketEngine } from '../support/engine.ts'
import type { HbonePool } from '../../mesh/hbone/types.ts'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { createLeveledLogger, createLogger } from '../../mesh/telemetry/log.ts'
import { ok } from '../../mesh/result.ts'
import { type WaypointConfig, waypointCommand } from '../../waypoint/config.ts'
import { type RunningWaypoint, startWaypoint } from '../../waypoint/start-waypoint.ts'
import { testIdentity } from '../hbone/certs.ts'
import { localAuthority } from '../identity/local-authority.ts'
import { waypointPolicy } from '../policy/request/samples.ts'
import { ip, sampleService, sampleWorkload } from '../model/samples.ts'
import { inService } from '../proxy/loopback-world.ts'
import { until } from '../support/until.ts'
import { startCollector } from '../telemetry/collector.ts'
import { type ControlPlane, startControlPlane } from './control-plane.ts'
import { OWN_WAYPOINT } from './world.ts'

/** Only a fault takes longer. */
const DEADLINE_MS = 20_000

/** The configuration that flags give. */
async function configOf(...flags: readonly string[]): Promise<WaypointConfig> {
  const { promise, resolve } = Promise.withResolvers<WaypointConfig>()
  const command = waypointCommand((config) => {
    resolve(config)
    return Promise.resolve()
  })
  await command.parseAsync(flags, { from: 'user' })
  return promise
}

/** Of loopback, and no other process's: whatever the machine does beside, its ports are free. */
const OWN_ADDRESS = `127.${64 + (process.pid >> 16)}.${(process.pid >> 8) & 0xff}.${process.pid & 0xff}`
let lastPort = 20_000

/** An address that nobody has listened at, below the ports that the kernel gives out. */
function freeAddress(): string {
  lastPort += 1
  return `${OWN_ADDRESS}:${lastPort}`
}

/** Lets a server listen on loopback. */
async function portOf(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

interface Started {
  readonly waypoint: RunningWaypoint
  readonly ready: () => Promise<string>
  readonly metrics: () => Promise<string>
  readonly dump: () => Promise<Record<string, unknown>>
  /** Sets how loud each part is: `PART:LEVEL`. */
  readonly setLevel: (level: string) => Promise<string>
}

async function start(t: Test, plane: ControlPlane, ...flags: readonly string[]): Promise<Started> {
  const [admin, metrics, readiness] = [freeAddress(), freeAddress(), freeAddress()]
  const config = await configOf(
    '--gateway-name=way',
    '--namespace=shop',
    `--xds-address=${plane.address}`,
    `--ca-root-file=${plane.rootFile}`,
    `--token-file=${plane.tokenFile}`,
    '--hbone-address=127.0.0.1:0',
    `--admin-address=${admin}`,
    `--metrics-address=${metrics}`,
    `--readiness-address=${readiness}`,
    '--drain-deadline=0.2',
    ...flags,
  )
  const { log, levels } = createLeveledLogger('waypoint', 'silent', 'json')
  const started = await startWaypoint({
    config,
    log,
    levels,
    engine: socketEngine(),
    writeAudit: () => undefined,
    quit: () => undefined,
  })
  if (!started.ok) throw started.error
  t.teardown(() => started.value.stop())
  const get = async (address: string, path: string): Promise<string> =>
    (await fetch(`http://${address}${path}`)).text()
  return {
    waypoint: started.value,
    ready: () => get(readiness, '/healthz/ready'),
    metrics: () => get(metrics, '/metrics'),
    dump: async () => JSON.parse(await get(admin, '/config_dump')) as Record<string, unknown>,
    setLevel: async (level) =>
      (await fetch(`http://${admin}/logging?level=${level}`, { method: 'POST' })).text(),
  }
}

/** Opens tunnels as a client of the mesh. */
async function caller(
  t: Test,
  plane: ControlPlane,
  port: number,
): Promise<(authority: string) => ReturnType<HbonePool['open']>> {
  const identity = testIdentity('client')
  const log = createLogger('test', 'silent')
  const certificates = new CertificateManager({
    supply: new SignedCertificates({ authority: localAuthority(plane.authority), log }),
    log,
  })
  t.teardown(() => certificates.close())
  const certificate = await certificates.get(identity, AbortSignal.timeout(DEADLINE_MS))
  if (!certificate.ok) throw new Error(certificate.error.message)
  const pool = createHbonePool({
    certificate: () => Promise.resolve(ok(certificate.value)),
    memory: new HeldMemory(HELD_LIMIT_BYTES),
    dial: async () => {
      const socket = connect({ port, host: '127.0.0.1' })
      await once(socket, 'connect')
      return ok(socket)
    },
  })
  t.teardown(() => pool.drain(0))
  const target = {
    sourceIdentity: identity,
    sourceIp: undefined,
    destination: { address: ip('127.0.0.1'), port },
    expectedIdentities: [testIdentity('way')],
  }
  return (authority) => pool.open(target, authority, {}, AbortSignal.timeout(DEADLINE_MS))
}

void t.test('it is ready once it has its certificate, the mesh and its listener', async (t) => {
  const plane = await startControlPlane(t)
  const { waypoint, ready, metrics, dump } = await start(t, plane)
  await until(async () => (await ready()) === 'not ready, pending: xDS, HBONE\n', 'a certificate')
  const service = sampleService('catalog', {
    waypoint: OWN_WAYPOINT,
    addresses: [{ network: '', address: ip('10.96.0.50'), prefixLength: undefined }],
  })
  plane.addresses.update([{ kind: 'service', service }], [])
  plane.addresses.complete()
  plane.routes.complete()
  await until(async () => (await metrics()).includes('kind="services"} 1'), 'the mesh')
  t.equal(
    await ready(),
    'not ready, pending: xDS, HBONE\n',
    'without its policies it serves nothing',
  )
  plane.policies.update([waypointPolicy('p', 'deny', [])], [])
  plane.policies.complete()
  const port = await waypoint.hbonePort
  await until(async () => (await ready()) === 'ready\n', 'readiness')
  t.match(await metrics(), /ambit_waypoint_tunnels 0/)
  t.match(await dump(), {
    services: [{ key: service.key, waypoint: { hboneMtlsPort: 15008 } }],
    certificates: [{ identity: testIdentity('way'), state: 'Available' }],
    policies: [{ key: 'shop/p' }],
    pending: [],
  })
  t.notMatch(JSON.stringify(await dump()), /PRIVATE KEY/)

  const open = await caller(t, plane, port)
  t.match(await open('10.96.0.50:80'), { ok: true })
  t.match(await open('10.96.0.51:80'), { ok: false, error: { status: 404 } })
  await waypoint.stop()
  await t.rejects(ready(), 'it is gone')
})

void t.test(
  'without a control plane it waits, says for what, and ends when it is told to',
  async (t) => {
    const plane = await startControlPlane(t)
    const { waypoint, ready } = await start(t, { ...plane, address: '127.0.0.1:1' })
    t.equal(await ready(), 'not ready, pending: certificate, xDS, HBONE\n')
    await waypoint.stop()
  },
)

void t.test('with a collector it exports a request as line, spans and series', async (t) => {
  const plane = await startControlPlane(t)
  const collector = await startCollector(t)
  const app = createServer((_, response) => response.end('served'))
  const appPort = await portOf(app)
  t.teardown(() => app.close())
  const { waypoint, setLevel } = await start(
    t,
    plane,
    ...['--pod-name=way-1', '--trace-sample=1', `--otlp-endpoint=${collector.endpoint.href}`],
  )
  t.match(await setLevel('access:info'), /access.*info/)
  const service = sampleService('catalog', {
    waypoint: OWN_WAYPOINT,
    ports: [{ servicePort: 80, targetPort: appPort, appProtocol: 'http1' }],
  })
  const workload = sampleWorkload('catalog-1', {
    addresses: [ip('127.0.0.1')],
    tunnelProtocol: 'none',
    ...inService(service, appPort),
  })
  plane.addresses.update(
    [
      { kind: 'service', service },
      { kind: 'workload', workload },
    ],
    [],
  )
  for (const offer of [plane.addresses, plane.routes, plane.policies]) offer.complete()
  const open = await caller(t, plane, await waypoint.hbonePort)
  const opened = await open('10.96.0.50:80')
  if (!opened.ok) throw new Error(opened.error.message)
  const { tunnel } = opened.value
  tunnel.end('GET /price HTTP/1.1\r\nhost: catalog.shop\r\nconnection: close\r\n\r\n')
  t.match((await buffer(tunnel)).toString(), /^HTTP\/1\.1 200 OK\r\n[^]*served/)
  // What waits goes with the last of it.
  await waypoint.stop()
  const sentTo = (path: string): string =>
    JSON.stringify(collector.got.filter((each) => each.path === path).map((each) => each.message))
  const [logs, traces, metrics] = ['/v1/logs', '/v1/traces', '/v1/metrics'].map(sentTo)
  for (const [what, sent] of Object.entries({ logs, metrics })) {
    t.match(sent, /"service.name","value":\{"stringValue":"ambit-waypoint"/, what)
    t.match(sent, /"k8s.pod.name","value":\{"stringValue":"way-1"/, what)
  }
  t.match(logs, /"stringValue":"\/price"/)
  t.match(traces, /"kind":"SPAN_KIND_SERVER"/)
  t.match(traces, /"kind":"SPAN_KIND_CLIENT"/)
  t.match(traces, /\/price/)
  t.match(metrics, /"istio_requests_total"/)
  t.match(metrics, /"reporter","value":\{"stringValue":"waypoint"/)
})
