// SPDX-License-Identifier: Apache-2.0
// The headers that describe a connection to its peer: written as Istio writes them, read without trust.

import { deepStrictEqual } from 'node:assert'
import fc from 'fast-check'
import t from 'tap'
import { formatForwarded, parseForwarded } from '../../mesh/telemetry/forwarded.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { type Baggage, formatBaggage, parseBaggage } from '../../mesh/telemetry/baggage.ts'
import {
  formatTraceParent,
  newTraceParent,
  parseTraceParent,
} from '../../mesh/telemetry/traceparent.ts'

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

await t.test('parseBaggage() reads back every baggage', (t) => {
  const workload = fc.record(
    {
      type: fc.constantFrom('deployment' as const, 'cronjob', 'pod', 'job'),
      name,
    },
    plain,
  )
  const any = fc.record(
    {
      clusterName: name,
      namespace: name,
      workload,
      serviceName: name,
      serviceVersion: name,
      region: name,
      zone: name,
    },
    optional,
  )
  fc.assert(
    fc.property(any, (baggage) => deepStrictEqual(parseBaggage(formatBaggage(baggage)), baggage)),
    { numRuns: 50 },
  )
  t.pass('for fifty random ones')
  t.end()
})

await t.test('parseBaggage() passes over what it does not understand', (t) => {
  t.strictSame(
    parseBaggage(
      ' k8s.namespace.name = shop ;p=1,,=,nonsense,service.name=,a=b,k8s.namespace.name=other',
    ),
    { namespace: 'shop' },
  )
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void parseBaggage(text)))
  t.end()
})

await t.test('parseForwarded() reads back addresses of both families and the host', (t) => {
  const client = fc.record(
    {
      address: fc.oneof(
        fc.ipV4(),
        fc.ipV6().map((text) => text.toLowerCase()),
      ) as fc.Arbitrary<IpAddress>,
      port: fc.integer({ min: 0, max: 65_535 }),
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
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void parseForwarded(text)))
  t.end()
})

await t.test('traceparent is new for each connection and reads back', (t) => {
  const trace = newTraceParent()
  t.match(formatTraceParent(trace), /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/)
  t.strictSame(parseTraceParent(formatTraceParent(trace)), trace)
  t.not(newTraceParent().traceId, trace.traceId)
  for (const bad of [
    '',
    '00-0-0-00',
    `00-${'0'.repeat(32)}-${'1'.repeat(16)}-00`,
    `ff-${'1'.repeat(32)}-${'1'.repeat(16)}-00`,
  ])
    t.equal(parseTraceParent(bad), undefined, bad)
  fc.assert(fc.property(fc.string(), (text) => void parseTraceParent(text)))
  t.end()
})
