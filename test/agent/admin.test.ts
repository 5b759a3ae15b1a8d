// SPDX-License-Identifier: Apache-2.0
// The agent's HTTP ports that pods can reach: readiness says what is missing, metrics are bounded.

import { once } from 'node:events'
import type { Server } from 'node:http'
import { connect, type Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { listen } from '../../mesh/program/listen.ts'
import { countPods } from '../../agent/admin/count-pods.ts'
import { AgentMetrics } from '../../agent/admin/metrics.ts'
import { Readiness } from '../../mesh/program/readiness.ts'
import { createMetricsServer, createReadinessServer } from '../../mesh/program/proxy-servers.ts'
import { standingOf } from '../../agent/admin/workers-standing.ts'
import { UNKNOWN_PARTY } from '../../mesh/telemetry/connection-record.ts'
import { exposition } from '../../mesh/telemetry/metrics/exposition.ts'
import { trafficLabels, type TrafficDelta } from '../../mesh/telemetry/traffic.ts'

void t.test('readiness lists what is missing until nothing is', async (t) => {
  const readiness = new Readiness(['capture', 'xDS'])
  const stuck: number[] = []
  const next: { pod?: string } = {}
  const health = { unresponsive: () => Promise.resolve(stuck), unkillable: [] }
  const app = createReadinessServer(standingOf(readiness, health, () => next.pod))
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
  stuck.pop()
  next.pod = 'ambit-agent-new'
  t.match(
    await look(),
    { statusCode: 500, body: /its successor ambit-agent-new/ },
    'the kubelet may mean the one that starts beside it',
  )
})

void t.test('the agent lives until a worker hangs that nothing can end', async (t) => {
  const unkillable: number[] = []
  const app = createReadinessServer(
    standingOf(new Readiness(['xDS']), {
      unresponsive: () => Promise.resolve([]),
      unkillable,
    }),
  )
  t.teardown(() => app.close())
  t.match(await app.inject('/healthz/live'), { statusCode: 200 }, 'live, though not ready')
  unkillable.push(1)
  t.match(await app.inject('/healthz/live'), {
    statusCode: 500,
    payload: 'data-plane workers hang: 1\n',
  })
})

void t.test('one source cannot take all connections of a port that pods reach', async (t) => {
  const app = createReadinessServer(
    standingOf(new Readiness([]), {
      unresponsive: () => Promise.resolve([]),
      unkillable: [],
    }),
  )
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
  const readiness = createReadinessServer(
    standingOf(new Readiness([]), {
      unresponsive: () => {
        asked += 1
        return answer.promise
      },
      unkillable: [],
    }),
  )
  t.teardown(() => readiness.close())
  const crowd = [1, 2, 3].map(() => readiness.inject({ url: '/healthz/ready' }))
  await setImmediate()
  answer.resolve([])
  for (const reply of await Promise.all(crowd)) t.equal(reply.statusCode, 200)
  t.equal(asked, 1)

  const metrics = new AgentMetrics({
    version: '1',
    pods: () => ({ active: 0, pending: 0 }),
    meshSizes: () => ({}),
    captureEvents: () => ({}),
    podsWithMissingPolicies: () => 0,
  })
  let written = 0
  const gather = metrics.families.bind(metrics)
  metrics.families = () => {
    written += 1
    return gather()
  }
  const app = createMetricsServer(metrics)
  t.teardown(() => app.close())
  for (let count = 0; count < 3; count += 1)
    t.match((await app.inject({ url: '/metrics' })).body, /istio_build/)
  t.equal(written, 1)
})

/** The labels of a connection of which nothing else is known. */
function labelsOf(
  known: Partial<Parameters<typeof trafficLabels>[0]>,
): ReturnType<typeof trafficLabels> {
  return trafficLabels(
    {
      direction: 'outbound',
      startedAt: 0,
      sourceAddress: undefined,
      source: UNKNOWN_PARTY,
      destinationAddress: undefined,
      hboneTarget: undefined,
      destination: UNKNOWN_PARTY,
      service: undefined,
      security: 'unknown',
      ...known,
    },
    '-',
    'node_local',
  )
}

void t.test(
  'metrics carry the sums of the workers, and a flood of pairs shares one series',
  async (t) => {
    const metrics = new AgentMetrics({
      podsWithMissingPolicies: () => 0,
      version: 'test',
      pods: () => ({ active: 3, pending: 1 }),
      meshSizes: () => ({ workloads: 7 }),
      captureEvents: () => ({}),
      maxSeries: 2,
    })
    const app = createMetricsServer(metrics)
    t.teardown(() => app.close())
    const delta = (name: string): TrafficDelta => ({
      labels: labelsOf({ source: { ...UNKNOWN_PARTY, name } }),
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
    t.match(body, /workload_manager_pending_proxy_count 1/)
    t.match(body, /ambit_mesh_resources\{kind="workloads"\} 7/)
    t.match(body, /^ambit_traffic_series 3$/m)
    t.match(body, /ambit_traffic_series_folded_total 2/)
    t.match(body, /istio_tcp_sent_bytes_total\{[^}]*source_workload="one"[^}]*\} 20/)
  },
)

void t.test(
  'what is open is the difference of beginnings and ends, but for a worker that died',
  async (t) => {
    const metrics = new AgentMetrics({
      podsWithMissingPolicies: () => 0,
      version: 'test',
      pods: () => ({ active: 0, pending: 0 }),
      meshSizes: () => ({}),
      captureEvents: () => ({}),
    })
    const delta = (direction: 'inbound' | 'outbound', opened: number, closed: number) => ({
      labels: labelsOf({ direction }),
      opened,
      closed,
      failed: 0,
      sentBytes: 0,
      receivedBytes: 0,
    })
    metrics.add([delta('outbound', 5, 0), delta('inbound', 2, 0)], 0)
    metrics.add([delta('outbound', 7, 0), delta('outbound', 0, 3)], 1)
    t.match(await textOf(metrics), /^istio_tcp_sockets_open\{reporter="source"\} 9$/m)
    t.match(await textOf(metrics), /^istio_tcp_sockets_open\{reporter="destination"\} 2$/m)
    metrics.workerLost(0)
    t.match(await textOf(metrics), /^istio_tcp_sockets_open\{reporter="source"\} 4$/m)
    t.match(await textOf(metrics), /^istio_tcp_sockets_open\{reporter="destination"\} 0$/m)
  },
)

void t.test('pods that are to be served and are not are pending', (t) => {
  const states = ['captured', 'captured', 'waiting', 'failed', 'cutOff', 'outside'] as const
  t.same(countPods(states.map((state) => ({ state }))), { active: 2, pending: 3 })
  t.end()
})

void t.test('every scrape shows what the BPF programs have counted by then', async (t) => {
  const counted = { outCaptured4: 7, outDenyNoAgent: 0 }
  const metrics = new AgentMetrics({
    podsWithMissingPolicies: () => 0,
    version: 'test',
    pods: () => ({ active: 0, pending: 0 }),
    meshSizes: () => ({}),
    captureEvents: () => counted,
  })
  t.match(await textOf(metrics), /^ambit_capture_events_total\{event="outCaptured4"\} 7$/m)
  counted.outCaptured4 = 9
  const later = await textOf(metrics)
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
      pods: () => ({ active: 0, pending: 0 }),
      meshSizes: () => ({}),
      captureEvents: () => ({}),
      podsWithMissingPolicies: () => 0,
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

async function textOf(metrics: AgentMetrics): Promise<string> {
  return [...exposition(await metrics.families(), 'prometheus')].join('')
}

function connectionCount(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error === null ? resolve(count) : reject(error)))
  })
}
