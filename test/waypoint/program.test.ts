// SPDX-License-Identifier: Apache-2.0
// The program as its Deployment runs it: what it waits for, what it says of itself, and how it goes.

import { once } from 'node:events'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { CertificateManager } from '../../mesh/identity/certificate-manager.ts'
import { createHbonePool } from '../../mesh/hbone/pool.ts'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { createLeveledLogger, createLogger } from '../../mesh/telemetry/log.ts'
import { ok } from '../../mesh/result.ts'
import { type WaypointConfig, waypointCommand } from '../../waypoint/config.ts'
import { type RunningWaypoint, startWaypoint } from '../../waypoint/start-waypoint.ts'
import { testIdentity } from '../hbone/certs.ts'
import { localAuthority } from '../identity/local-authority.ts'
import { waypointPolicy } from '../policy/request/samples.ts'
import { ip, sampleService } from '../model/samples.ts'
import { until } from '../support/until.ts'
import { type ControlPlane, startControlPlane } from './control-plane.ts'
import { OWN_WAYPOINT } from './world.ts'

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

/** A port of loopback that is free now. */
async function freePort(): Promise<number> {
  const { createServer } = await import('node:net')
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}

interface Started {
  readonly waypoint: RunningWaypoint
  readonly ready: () => Promise<string>
  readonly metrics: () => Promise<string>
  readonly dump: () => Promise<Record<string, unknown>>
}

async function start(t: Test, plane: ControlPlane): Promise<Started> {
  const [admin, metrics, readiness] = [await freePort(), await freePort(), await freePort()]
  const config = await configOf(
    '--gateway-name=way',
    '--namespace=shop',
    `--xds-address=${plane.address}`,
    `--ca-root-file=${plane.rootFile}`,
    `--token-file=${plane.tokenFile}`,
    '--hbone-address=127.0.0.1:0',
    `--admin-address=127.0.0.1:${admin}`,
    `--metrics-address=127.0.0.1:${metrics}`,
    `--readiness-address=127.0.0.1:${readiness}`,
    '--drain-deadline=0.2',
  )
  const { log, levels } = createLeveledLogger('waypoint', 'silent', 'json')
  const started = await startWaypoint({
    config,
    log,
    levels,
    writeAudit: () => undefined,
    quit: () => undefined,
  })
  if (!started.ok) throw started.error
  t.teardown(() => started.value.stop())
  const get = async (port: number, path: string): Promise<string> =>
    (await fetch(`http://127.0.0.1:${port}${path}`)).text()
  return {
    waypoint: started.value,
    ready: () => get(readiness, '/healthz/ready'),
    metrics: () => get(metrics, '/metrics'),
    dump: async () => JSON.parse(await get(admin, '/config_dump')) as Record<string, unknown>,
  }
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

  const identity = testIdentity('client')
  const certificates = new CertificateManager({
    authority: localAuthority(plane.authority),
    log: createLogger('test', 'silent'),
  })
  t.teardown(() => certificates.close())
  const certificate = await certificates.get(identity, AbortSignal.timeout(5_000))
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
  const signal = AbortSignal.timeout(5_000)
  t.match(await pool.open(target, '10.96.0.50:80', {}, signal), { ok: true })
  t.match(await pool.open(target, '10.96.0.51:80', {}, signal), {
    ok: false,
    error: { status: 404 },
  })
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
