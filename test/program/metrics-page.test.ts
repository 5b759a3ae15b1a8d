// SPDX-License-Identifier: Apache-2.0
// The page for Prometheus: the format and the compression that the caller asks for, the same numbers in each.

import { gunzipSync } from 'node:zlib'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import t from 'tap'
import { serveMetrics } from '../../mesh/program/metrics-page.ts'
import { publicServer } from '../../mesh/program/public-server.ts'
import { registryFamilies } from '../../mesh/telemetry/metrics/family.ts'

const PROMETHEUS_ACCEPT =
  'application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1'

function filledRegistry(): Registry {
  const registry = new Registry()
  const registers = [registry]
  const labelNames = ['of']
  new Counter({ name: 'calls_total', help: 'Calls.', labelNames, registers }).inc({ of: 'a"b' }, 3)
  new Gauge({ name: 'depth', help: 'How deep\nit is.', registers }).set(-1.5)
  new Histogram({ name: 'took', help: 'Time.', buckets: [1, 5], registers }).observe(2)
  return registry
}

void t.test('a page in the format of Prometheus is what prom-client itself writes', async (t) => {
  const registry = filledRegistry()
  const app = publicServer()
  t.teardown(() => app.close())
  serveMetrics(app, { families: () => registryFamilies(registry) }, ['/metrics'])
  const plain = await app.inject('/metrics')
  t.match(plain.headers['content-type'], /^text\/plain; version=0\.0\.4/)
  const lines = (page: string): string[] => page.split('\n').filter((line) => line !== '')
  t.same(lines(plain.body), lines(await registry.metrics()))

  const packed = await app.inject({
    url: '/metrics',
    headers: { 'accept-encoding': 'gzip, deflate' },
  })
  t.equal(packed.headers['content-encoding'], 'gzip')
  t.equal(gunzipSync(packed.rawPayload).toString(), plain.body)
  const refused = await app.inject({ url: '/metrics', headers: { 'accept-encoding': 'gzip;q=0' } })
  t.equal(refused.headers['content-encoding'], undefined)
})

void t.test('who asks for OpenMetrics gets it, as Prometheus does', async (t) => {
  const registry = filledRegistry()
  const app = publicServer()
  t.teardown(() => app.close())
  serveMetrics(app, { families: () => registryFamilies(registry) }, ['/metrics'])
  const page = await app.inject({ url: '/metrics', headers: { accept: PROMETHEUS_ACCEPT } })
  t.match(page.headers['content-type'], /^application\/openmetrics-text; version=1\.0\.0/)
  t.match(page.body, /^# TYPE calls counter$/m, 'a counter is named without its suffix')
  t.match(page.body, /^calls_total\{of="a\\"b"\} 3$/m)
  t.match(page.body, /^took_bucket\{le="\+Inf"\} 1$/m)
  t.ok(page.body.endsWith('\n# EOF\n'))
})

void t.test(
  'a page that cannot be made is told to its caller, and the next one is made anew',
  async (t) => {
    let fails = true
    const app = publicServer()
    t.teardown(() => app.close())
    const families = () =>
      fails ? Promise.reject(new Error('no numbers')) : registryFamilies(filledRegistry())
    serveMetrics(app, { families }, ['/metrics'])
    t.equal((await app.inject('/metrics')).statusCode, 500)
    fails = false
    t.equal((await app.inject('/metrics')).statusCode, 200)
  },
)
