// SPDX-License-Identifier: Apache-2.0
// The headers that describe a connection to its peer: written as Istio writes them, read without trust.

import { deepStrictEqual } from 'node:assert'
import fc from 'fast-check'
import t from 'tap'
import { formatForwarded, parseForwarded } from '../../mesh/telemetry/forwarded.ts'
import { parseIpAddress } from '../../mesh/model/address.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { type Baggage, formatBaggage } from '../../mesh/telemetry/baggage.ts'
import { formatTraceParent, newTraceParent } from '../../mesh/telemetry/traceparent.ts'

const name = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,30}$/)
const plain = { noNullPrototype: true } as const
const optional = { ...plain, requiredKeys: [] as [] }

await t.test('formatBaggage() writes what ztunnel writes, and omits what is empty', (t) => {
  const baggage: Baggage = {
    clusterName: 'Kubernetes',
    namespace: 'shop',
    workload: { type: 'deployment', name: 'catalog' },
    serviceName: 'catalog',
    serviceVersion: 'v1',
    region: '',
    zone: 'zone-a',
  }
  t.equal(
    formatBaggage(baggage),
    'k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=catalog,service.name=catalog,service.version=v1,cloud.availability_zone=zone-a',
  )
  t.equal(formatBaggage({ namespace: 'a,b=c', serviceName: 'x\r\ny' }), '')
  t.end()
})

await t.test('parseForwarded() reads back addresses of both families and the host', (t) => {
  const client = fc.record(
    {
      address: fc.oneof(fc.ipV4(), fc.ipV6().map(parseIpAddress)) as fc.Arbitrary<IpAddress>,
      port: fc.integer({ min: 1, max: 65_535 }),
    },
    plain,
  )
  const any = fc.record({ for: client, host: name }, optional)
  fc.assert(
    fc.property(any, (value) => deepStrictEqual(parseForwarded(formatForwarded(value)), value)),
    { numRuns: 50 },
  )
  t.equal(
    formatForwarded({ for: { address: 'fd00::1' as IpAddress, port: 9 } }),
    'for="[fd00::1]:9"',
  )
  t.end()
})

await t.test('parseForwarded() takes the first hop and nothing malformed', (t) => {
  t.strictSame(parseForwarded('For="10.0.0.1:80"; HOST=a.b , for="10.0.0.2:80"'), {
    for: { address: '10.0.0.1', port: 80 },
    host: 'a.b',
  })
  t.strictSame(parseForwarded('for="10.0.0.1:99999";host="a b"'), {})
  t.strictSame(parseForwarded('for=unknown'), {})
  t.strictSame(parseForwarded('for="10.0.0.1:80\\"";host=a.b'), { host: 'a.b' })
  t.strictSame(parseForwarded('by=x;xhost=evil;host="a.b"'), { host: 'a.b' })
  t.strictSame(parseForwarded('by="host=evil;host=evil";host=a.b'), { host: 'a.b' })
  for (const malformed of ['host', 'host="a.b', '=a;host=b', 'a b=c;host=d', 'x=y z;host=b'])
    t.strictSame(parseForwarded(malformed), {}, malformed)
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void parseForwarded(text)))
  t.end()
})

await t.test('traceparent is new for each connection, however many there are', (t) => {
  const traces = Array.from({ length: 1_000 }, newTraceParent)
  t.match(formatTraceParent(newTraceParent()), /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/)
  t.equal(new Set(traces.map(({ traceId }) => traceId)).size, traces.length)
  t.equal(new Set(traces.map(({ parentId }) => parentId)).size, traces.length)
  t.end()
})
