// SPDX-License-Identifier: Apache-2.0
// Export by OTLP to collectors in every mood: what is taken is counted, what fails is tried again, and nobody waits for it.

import { createServer, type Server } from 'node:net'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { makeServerCertificate } from '../../lab/machine/server-certificate.ts'
import { encodeLogs } from '../../mesh/telemetry/otlp/encode-logs.ts'
import { OtlpExporter, type ExporterOptions } from '../../mesh/telemetry/otlp/exporter.ts'
import { outcomeOf } from '../../mesh/telemetry/otlp/answer.ts'
import { type OtlpConfig, parseHeaders, readTarget } from '../../mesh/telemetry/otlp/target.ts'
import type { MetricFamily } from '../../mesh/telemetry/metrics/family.ts'
import { Waiter } from '../support/waiter.ts'
import { startCollector } from './collector.ts'

const RESOURCE = { 'service.name': 'ambit-agent' }
const FAMILIES: readonly MetricFamily[] = [
  { name: 'ups', help: 'Ups.', type: 'counter', samples: [{ name: 'ups', labels: '', value: 7 }] },
]
/** No export of metrics but the last one. */
const NEVER_MS = 1e9

function logs(items: number) {
  const line = { severity: 'info', atMs: 5_000, body: 'connection complete' } as const
  const lines = Array.from({ length: items }, (_, index) => ({ ...line, attributes: { index } }))
  return { body: encodeLogs(RESOURCE, lines, 6_000), items }
}

async function exporter(
  config: Omit<OtlpConfig, 'otlpIntervalMs'>,
  own?: Partial<ExporterOptions>,
) {
  const lines: string[] = []
  const waiter = new Waiter()
  const log = pino(
    {},
    {
      write: (line: string) => {
        lines.push(line)
        waiter.poke()
      },
    },
  )
  const target = await readTarget({ ...config, otlpIntervalMs: NEVER_MS })
  if (target === undefined) throw new Error('no target')
  const made = new OtlpExporter({
    target,
    resource: RESOURCE,
    metrics: { families: () => Promise.resolve(FAMILIES) },
    intervalMs: NEVER_MS,
    random: () => 1,
    backoff: { firstMs: 1, longestMs: 5 },
    log,
    ...own,
  })
  /** By signal: what became of it. */
  const counts = () =>
    Object.fromEntries(
      made
        .families()
        .map(({ name, samples }) => [
          name.replace(/^ambit_otlp_|_total$/g, ''),
          Object.fromEntries([...samples].map(({ labels, value }) => [labels.slice(8, -1), value])),
        ]),
    )
  return { lines, waiter, exporter: made, counts }
}

function secretFile(t: Test, content: string): string {
  const file = path.join(t.testdir({}), 'headers')
  writeFileSync(file, content)
  return file
}

await t.test('what there is arrives with its headers, and closing waits for it', async (t) => {
  const collector = await startCollector(t)
  const file = secretFile(t, '# token\nAuthorization: Bearer first\n')
  const {
    exporter: own,
    lines,
    counts,
  } = await exporter({
    otlpEndpoint: new URL(`${collector.endpoint.origin}//otlp/`),
    otlpHeadersFile: file,
  })
  own.takeLogs(logs(3), 0)
  await collector.until(() => collector.got.length === 1)
  writeFileSync(file, 'authorization: Bearer second')
  await own.close(10_000)
  t.match(collector.got, [
    { path: '//otlp/v1/logs', headers: { authorization: 'Bearer first' } },
    {
      path: '//otlp/v1/metrics',
      headers: { authorization: 'Bearer second', 'content-type': 'application/x-protobuf' },
      message: { resourceMetrics: [{ scopeMetrics: [{ metrics: [{ name: 'ups' }] }] }] },
    },
  ])
  t.same(counts(), {
    exported: { metrics: 1, logs: 3, traces: 0 },
    dropped: { metrics: 0, logs: 0, traces: 0 },
    failed_requests: { metrics: 0, logs: 0, traces: 0 },
  })
  t.same(lines, [])
})

await t.test('who is overloaded is asked again, any other refusal is the end of it', async (t) => {
  const elsewhere = await startCollector(t)
  const collector = await startCollector(t, (response, count) => {
    if (count === 1) response.writeHead(429, { 'retry-after': '0.05' })
    if (count === 2) response.writeHead(503)
    if (count === 4) response.writeHead(400)
    if (count === 5) response.writeHead(307, { location: `${elsewhere.endpoint.href}v1/logs` })
    if (count === 6) response.writeHead(200, { 'content-type': 'text/html' })
    response.end('<html>')
  })
  const headers = secretFile(t, 'authorization: Bearer secret')
  const {
    exporter: own,
    lines,
    counts,
  } = await exporter({
    otlpEndpoint: collector.endpoint,
    otlpHeadersFile: headers,
  })
  for (const items of [1, 10, 100, 1000, 2]) own.takeLogs(logs(items), 0)
  await collector.until(() => collector.got.length === 7)
  await own.close(10_000)
  t.match(counts(), {
    exported: { metrics: 1, logs: 3 },
    dropped: { metrics: 0, logs: 1110 },
    failed_requests: { logs: 5 },
  })
  t.equal(lines.length, 1, 'one line a minute')
  t.match(lines[0], /429/)
  t.notMatch(lines.join(''), /secret/)
  t.same(elsewhere.got, [], 'nobody else gets the headers')
})

await t.test('what a collector did not take of a request is counted, and told once', async (t) => {
  // partial_success { rejected_log_records: 2, error_message: "too old" }
  const answer = Buffer.from([0x0a, 0x0b, 0x08, 0x02, 0x12, 0x07, ...Buffer.from('too old')])
  const collector = await startCollector(t, (response) => {
    response.setHeader('content-type', 'application/x-protobuf')
    response.end(answer)
  })
  const { exporter: own, lines, counts } = await exporter({ otlpEndpoint: collector.endpoint })
  for (const items of [5, 5, 5]) own.takeLogs(logs(items), 0)
  await collector.until(() => collector.got.length === 3)
  await own.close(10_000)
  t.match(counts(), { exported: { logs: 9 }, dropped: { logs: 6 } })
  const told = lines.map((line) => JSON.parse(line) as unknown)
  t.match(
    told.filter((line) => JSON.stringify(line).includes('"logs"')),
    [{ rejected: 2, reason: 'too old', msg: 'the collector has not taken all telemetry' }],
  )
})

await t.test('nobody there: what waits is bounded, and closing is, too', async (t) => {
  const {
    exporter: own,
    lines,
    counts,
  } = await exporter(
    { otlpEndpoint: new URL('http://127.0.0.1:1') },
    { longestQueueBytes: logs(5).body.length * 4 },
  )
  for (let count = 0; count < 100; count += 1) own.takeLogs(logs(5), 0)
  const before = counts()['dropped']?.['logs'] ?? 0
  t.ok(before >= 95 * 5 && before < 500, `${before} are dropped for want of room`)
  own.takeLogs(logs(0), 7)
  await own.close(100)
  own.takeLogs(logs(1), 0)
  t.match(counts(), { exported: { logs: 0 }, dropped: { logs: 508, metrics: 1 } })
  t.equal(lines.length, 1)
})

await t.test('a collector that is silent holds up neither an interval nor the end', async (t) => {
  const silent: Server = createServer((socket) => socket.resume()).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => silent.close())
  const bound = silent.address()
  const port = typeof bound === 'object' ? bound?.port : 0
  const {
    exporter: own,
    waiter,
    counts,
    lines,
  } = await exporter({ otlpEndpoint: new URL(`http://127.0.0.1:${port}`) }, { intervalMs: 50 })
  own.takeLogs(logs(3), 0)
  await waiter.until(() => lines.length > 0)
  t.match(lines[0], /not taken in time/, 'metrics of an interval are given up at the next')
  await own.close(50)
  t.match(counts(), { exported: { metrics: 0, logs: 0 }, dropped: { logs: 3 } })
})

await t.test(
  'an https collector is trusted by the roots of the file, and by no others',
  async (t) => {
    const [certificate, stranger] = await Promise.all([
      makeServerCertificate(['127.0.0.1']),
      makeServerCertificate(['127.0.0.1']),
    ])
    const collector = await startCollector(t, undefined, certificate)
    const file = (pem: string) => secretFile(t, pem)
    const good = await exporter({
      otlpEndpoint: collector.endpoint,
      otlpCaFile: file(certificate.caPem),
    })
    await good.exporter.close(10_000)
    t.match(good.counts(), { exported: { metrics: 1 } })
    const bad = await exporter({
      otlpEndpoint: collector.endpoint,
      otlpCaFile: file(stranger.caPem),
    })
    bad.exporter.takeLogs(logs(1), 0)
    await bad.waiter.until(() => bad.lines.length > 0)
    t.match(bad.lines[0], /certificate|signature/)
    await bad.exporter.close(50)
    t.match(bad.counts(), { exported: { metrics: 0, logs: 0 }, dropped: { metrics: 1, logs: 1 } })
    t.equal(collector.got.length, 1)
  },
)

await t.test(
  'files that cannot be used are refused by flag, line and reason, not by content',
  async (t) => {
    const otlpEndpoint = new URL('http://127.0.0.1:4318')
    const refused = async (config: Partial<OtlpConfig>, reason: RegExp) => {
      const read = readTarget({ otlpIntervalMs: 1, ...config })
      await t.rejects(read, { code: 'AMB_OTLP', message: reason })
      const message = await read.catch(String)
      t.notMatch(message, /secret/)
    }
    const headers = (content: string) => ({ otlpEndpoint, otlpHeadersFile: secretFile(t, content) })
    await refused({ otlpHeadersFile: '/x' }, /--otlp-headers-file: .* without --otlp-endpoint/)
    await refused(
      { otlpEndpoint, otlpHeadersFile: '/none' },
      /--otlp-headers-file \/none: .*ENOENT/,
    )
    await refused(headers('a: b\nsecret'), /--otlp-headers-file .*: line 2: .*name: value/)
    await refused(headers('se cret: secret'), /line 1/)
    await refused(headers('a: secret\u0001'), /line 1/)
    await refused(headers('a: secret\nA: secret'), /line 2: .*twice/)
    await refused(headers('Content-Length: 5'), /line 1: content-length cannot be set/)
    await refused({ otlpEndpoint, otlpCaFile: secretFile(t, 'secret') }, /--otlp-ca-file .*PEM/)
    t.same(parseHeaders('# none\r\n\r\nX-Key:  a:b \r\n'), { 'x-key': 'a:b' })
    t.equal(await readTarget({ otlpIntervalMs: 1 }), undefined)
  },
)

await t.test('answers are read as the specification says', (t) => {
  const now = Date.parse('2026-01-01T00:00:00Z')
  const protobuf = { 'content-type': 'application/x-protobuf' }
  for (const [statusCode, headers, body, outcome] of [
    [200, {}, [], { kind: 'done' }],
    [200, protobuf, [], { kind: 'done' }],
    // An empty partial success, and a field of the future.
    [200, protobuf, [0x0a, 0x00, 0x10, 0x01], { kind: 'done' }],
    [200, protobuf, [0x0a, 0x7f], { kind: 'refused', reason: /cannot be read/ }],
    [200, { 'content-type': 'application/json' }, [0x7b, 0x7d], { kind: 'done' }],
    [429, { 'retry-after': '3' }, [], { kind: 'again', afterMs: 3_000 }],
    [429, { 'retry-after': '99999' }, [], { kind: 'again', afterMs: 300_000 }],
    [
      503,
      { 'retry-after': 'Thu, 01 Jan 2026 00:00:09 GMT' },
      [],
      { kind: 'again', afterMs: 9_000 },
    ],
    [502, { 'retry-after': 'soon' }, [], { kind: 'again', afterMs: undefined }],
    [401, {}, [], { kind: 'refused', reason: /401/ }],
    [500, {}, [], { kind: 'refused', reason: /500/ }],
  ] as const)
    t.match(outcomeOf({ statusCode, headers }, Uint8Array.from(body), now), outcome)
  t.end()
})
