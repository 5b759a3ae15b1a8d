// SPDX-License-Identifier: Apache-2.0
// The agent's HTTP ports: readiness says what is missing, the dump shows everything but keys, metrics are bounded.

import { once } from 'node:events'
import type { Server } from 'node:http'
import { connect, type Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { configDump } from '../../agent/admin/config-dump.ts'
import { listen } from '../../mesh/program/listen.ts'
import { AgentMetrics } from '../../agent/admin/metrics.ts'
import { Readiness } from '../../mesh/program/readiness.ts'
import {
  createAdminServer,
  createMetricsServer,
  createReadinessServer,
} from '../../agent/admin/servers.ts'
import { UNKNOWN_PARTY } from '../../mesh/telemetry/connection-record.ts'
import { trafficLabels, type TrafficDelta } from '../../mesh/telemetry/traffic.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { makeCertificate, makeRoot } from '../hbone/certs.ts'
import { inService, testPod, testService, workloadOf } from '../proxy/loopback-world.ts'

void t.test('readiness lists what is missing until nothing is', async (t) => {
  const readiness = new Readiness(['capture', 'xDS'])
  const stuck: number[] = []
  const app = createReadinessServer(readiness, {
    unresponsive: () => Promise.resolve(stuck),
    unkillable: [],
  })
  t.teardown(() => app.close())
  // Over a real connection: an injected request does not notice a handler that waits for its own answer.
  await listen(app, { host: '127.0.0.1', port: 0 }, '--readiness-address')
  const bound = app.server.address()
  const port = typeof bound === 'object' ? (bound?.port ?? 0) : 0
  const look = async () => {
    const response = await fetch(`http://127.0.0.1:${port}/healthz/ready`, {
      signal: AbortSignal.timeout(2_000),
    })
    return { statusCode: response.status, body: await response.text() }
  }
  t.match(await look(), { statusCode: 500, body: /pending: capture, xDS/ })
  readiness.done('capture')
  readiness.done('xDS')
  t.match(await look(), { statusCode: 200, body: 'ready\n' })
  stuck.push(1)
  t.match(await look(), { statusCode: 500, body: /data-plane worker 1/ })
})

void t.test('the log level is read and set, and nonsense is refused', async (t) => {
  let level = 'info'
  const app = createAdminServer({
    configDump: () => Promise.resolve({}),
    logLevel: () => level,
    setLogLevel: (next) => {
      level = next
    },
    quit: () => t.fail('nobody asked for that'),
  })
  t.teardown(() => app.close())
  const post = (url: string) => app.inject({ method: 'POST', url })
  t.match((await post('/logging?level=debug')).json(), { level: 'debug' })
  t.match((await app.inject({ url: '/logging' })).json(), { level: 'debug' })
  t.match(await post('/logging?level=loud'), { statusCode: 400 })
  t.match(await post('/logging'), { statusCode: 400 })
  t.equal(level, 'debug')
  t.match((await post('/logging?reset')).json(), { level: 'info' })
})

void t.test('quitting is asked by POST only, and takes no pod out of the mesh', async (t) => {
  let asked = 0
  const app = createAdminServer({
    configDump: () => Promise.resolve({}),
    logLevel: () => 'info',
    setLogLevel: () => undefined,
    quit: (...how: readonly unknown[]) => {
      t.same(how, [], 'nothing is handed on from the request')
      asked += 1
    },
  })
  t.teardown(() => app.close())
  t.match(await app.inject({ url: '/quitquitquit' }), { statusCode: 404 })
  t.match(await app.inject({ method: 'POST', url: '/quitquitquit?unpin=true' }), {
    statusCode: 200,
  })
  t.equal(asked, 1)
})

void t.test('the agent lives until a worker hangs that nothing can end', async (t) => {
  const unkillable: number[] = []
  const app = createReadinessServer(new Readiness(['xDS']), {
    unresponsive: () => Promise.resolve([]),
    unkillable,
  })
  t.teardown(() => app.close())
  t.match(await app.inject('/healthz/live'), { statusCode: 200 }, 'live, though not ready')
  unkillable.push(1)
  t.match(await app.inject('/healthz/live'), {
    statusCode: 500,
    payload: 'data-plane workers hang: 1\n',
  })
})

void t.test('one source cannot take all connections of a port that pods reach', async (t) => {
  const app = createReadinessServer(new Readiness([]), {
    unresponsive: () => Promise.resolve([]),
    unkillable: [],
  })
  t.teardown(() => app.close())
  await listen(app, { host: '127.0.0.1', port: 0 }, '--readiness-address')
  const bound = app.server.address()
  const port = typeof bound === 'object' ? (bound?.port ?? 0) : 0
  const knock = async (localAddress: string): Promise<Socket> => {
    const socket = connect({ host: '127.0.0.1', port, localAddress })
    t.teardown(() => socket.destroy())
    socket.on('error', () => undefined)
    await once(socket, 'connect')
    return socket
  }
  const silent: Socket[] = []
  for (let count = 0; count < 16; count += 1) silent.push(await knock('127.0.0.2'))
  await once((await knock('127.0.0.2')).resume(), 'close')
  const kubelet = await knock('127.0.0.3')
  kubelet.write('GET /healthz/ready HTTP/1.0\r\n\r\n')
  t.match(String((await once(kubelet, 'data'))[0]), /^HTTP\/1\.1 200/)
  silent[0]?.destroy()
  while ((await connectionCount(app.server)) > 15) await setImmediate()
  const next = await knock('127.0.0.2')
  next.write('GET /healthz/ready HTTP/1.0\r\n\r\n')
  t.match(String((await once(next, 'data'))[0]), /^HTTP\/1\.1 200/, 'one closed, one more')
})

void t.test('a crowd that asks for readiness or metrics costs no more than one', async (t) => {
  let asked = 0
  const answer = Promise.withResolvers<readonly number[]>()
  const readiness = createReadinessServer(new Readiness([]), {
    unresponsive: () => {
      asked += 1
      return answer.promise
    },
    unkillable: [],
  })
  t.teardown(() => readiness.close())
  const crowd = [1, 2, 3].map(() => readiness.inject({ url: '/healthz/ready' }))
  await setImmediate()
  answer.resolve([])
  for (const reply of await Promise.all(crowd)) t.equal(reply.statusCode, 200)
  t.equal(asked, 1)

  const metrics = new AgentMetrics({
    version: '1',
    activePods: () => 0,
    captureEvents: () => ({}),
    unenforcedPods: () => 0,
  })
  let written = 0
  const write = metrics.registry.metrics.bind(metrics.registry)
  metrics.registry.metrics = () => {
    written += 1
    return write()
  }
  const app = createMetricsServer(metrics)
  t.teardown(() => app.close())
  for (let count = 0; count < 3; count += 1)
    t.match((await app.inject({ url: '/metrics' })).body, /istio_build/)
  t.equal(written, 1)
})

void t.test(
  'the dump shows workloads, services, certificates and connections, and no key',
  async (t) => {
    const pod = testPod('catalog', '10.244.2.3' as IpAddress)
    const service = testService('catalog', '10.96.0.20' as IpAddress)
    const mesh = new MeshState()
    mesh.apply([
      { kind: 'service', service },
      { kind: 'workload', workload: workloadOf(pod, inService(service, 8080)) },
    ])
    const certificate = await makeCertificate(await makeRoot(), pod.identity)
    const dump = await configDump({
      mesh,
      certificates: () => [{ ...certificate, state: 'available' }],
      pods: () => [pod],
      connections: () =>
        Promise.resolve(
          new Map([
            [
              pod.uid,
              [
                {
                  direction: 'inbound' as const,
                  src: '10.244.1.2:4000',
                  actualDst: '10.244.2.3:15008',
                  originalDst: '10.244.2.3:8080',
                  protocol: 'HBONE' as const,
                },
              ],
            ],
          ]),
        ),
      version: 'test',
      config: {},
    })
    t.match(dump, {
      workloads: [{ uid: pod.workloadUid, protocol: 'HBONE', status: 'Healthy' }],
      services: [
        { hostname: service.hostname, vips: ['/10.96.0.20'], endpoints: { [pod.workloadUid]: {} } },
      ],
      certificates: [
        { identity: pod.identity, state: 'Available', certChain: [{}], rootCerts: [{}] },
      ],
      workloadState: {
        [pod.uid]: { state: 'Up', connections: { inbound: [{ protocol: 'HBONE' }], outbound: [] } },
      },
    })
    t.notMatch(JSON.stringify(dump), /PRIVATE KEY/)
  },
)

void t.test(
  'metrics carry the sums of the workers, and a flood of pairs shares one series',
  async (t) => {
    const metrics = new AgentMetrics({
      unenforcedPods: () => 0,
      version: 'test',
      activePods: () => 3,
      captureEvents: () => ({}),
      maxSeries: 2,
    })
    const app = createMetricsServer(metrics)
    t.teardown(() => app.close())
    const delta = (name: string): TrafficDelta => ({
      labels: trafficLabels(
        {
          direction: 'outbound',
          startedAt: 0,
          sourceAddress: undefined,
          source: { ...UNKNOWN_PARTY, name },
          destinationAddress: undefined,
          hboneTarget: undefined,
          destination: UNKNOWN_PARTY,
          service: undefined,
          security: 'unknown',
        },
        '-',
        'node_local',
      ),
      opened: 1,
      closed: 1,
      failed: 0,
      sentBytes: 10,
      receivedBytes: 5,
    })
    metrics.add(['one', 'two', 'three', 'four', 'one'].map(delta))
    const { body } = await app.inject({ url: '/stats/prometheus' })
    const opened = body
      .split('\n')
      .filter((text) => text.startsWith('istio_tcp_connections_opened_total{'))
    t.equal(opened.length, 3, 'two pairs and the rest')
    t.ok(opened.some((text) => text.includes('source_workload="one"') && text.endsWith(' 2')))
    t.ok(opened.some((text) => text.includes('source_workload="unknown"') && text.endsWith(' 2')))
    t.match(body, /workload_manager_active_proxy_count 3/)
    t.match(body, /istio_tcp_sent_bytes_total\{[^}]*source_workload="one"[^}]*\} 20/)
  },
)

void t.test('every scrape shows what the BPF programs have counted by then', async (t) => {
  const counted = { outCaptured4: 7, outDenyNoAgent: 0 }
  const metrics = new AgentMetrics({
    unenforcedPods: () => 0,
    version: 'test',
    activePods: () => 0,
    captureEvents: () => counted,
  })
  t.match(
    await metrics.registry.metrics(),
    /^ambit_capture_events_total\{event="outCaptured4"\} 7$/m,
  )
  counted.outCaptured4 = 9
  const later = await metrics.registry.metrics()
  t.match(later, /^ambit_capture_events_total\{event="outCaptured4"\} 9$/m, 'not added up again')
  t.match(
    later,
    /^ambit_capture_events_total\{event="outDenyNoAgent"\} 0$/m,
    'there before it happens',
  )
  t.match(later, /^# TYPE ambit_capture_events_total counter$/m)
})

void t.test('a taken port is told with the flag that moves it', async (t) => {
  const metrics = (): AgentMetrics =>
    new AgentMetrics({
      version: 'test',
      activePods: () => 0,
      captureEvents: () => ({}),
      unenforcedPods: () => 0,
    })
  const first = createMetricsServer(metrics())
  const second = createMetricsServer(metrics())
  t.teardown(() => Promise.all([first.close(), second.close()]))
  await listen(first, { host: '127.0.0.1', port: 0 }, '--metrics-address')
  const where = first.server.address()
  const taken = typeof where === 'object' ? (where?.port ?? 0) : 0
  await t.rejects(listen(second, { host: '127.0.0.1', port: taken }, '--metrics-address'), {
    code: 'AMB_LISTEN',
    message: /--metrics-address/,
  })
})

function connectionCount(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error === null ? resolve(count) : reject(error)))
  })
}
