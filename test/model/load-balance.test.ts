// SPDX-License-Identifier: Apache-2.0
// Which endpoint a connection goes to.

import fc from 'fast-check'
import t from 'tap'
import { type PickRequest, pickEndpoint } from '../../mesh/model/load-balance.ts'
import type { LoadBalancing, Service, Workload } from '../../mesh/model/types.ts'
import { ip, sampleService, sampleWorkload } from './samples.ts'

const service = sampleService('catalog')
const requested = ip('10.96.0.50')

function endpoint(name: string, overrides: Partial<Workload> = {}): Workload {
  const services: Workload['services'] = new Map([
    [service.key, [{ servicePort: 80, targetPort: 8080, appProtocol: 'http1' }]],
  ])
  return sampleWorkload(name, { services, ...overrides })
}

function pick(endpoints: readonly Workload[], overrides: Partial<PickRequest> = {}) {
  const request = { service, servicePort: 80, client: undefined, requested, random: () => 0 }
  return pickEndpoint(endpoints, { ...request, ...overrides })
}

const balancing = (loadBalancing: Partial<LoadBalancing>): Service => ({
  ...service,
  loadBalancing: { ...service.loadBalancing, ...loadBalancing },
})

void t.test(
  'pickEndpoint() leaves out who is unhealthy, has no address or does not serve the port',
  async (t) => {
    const good = endpoint('good')
    const others = [
      endpoint('unhealthy', { status: 'unhealthy' }),
      endpoint('no-address', { addresses: [] }),
      endpoint('no-port', { services: new Map([[service.key, []]]) }),
      endpoint('idle', { capacity: 0 }),
    ]
    for (const random of [0, 0.5, 0.999999])
      t.strictSame(pick([...others, good, ...others], { random: () => random }), {
        workload: good,
        address: ip('10.244.0.1'),
        port: 8080,
      })
    t.equal(pick(others), undefined)
    t.equal(pick([good], { servicePort: 81 }), undefined)
    t.equal(pick([]), undefined)
  },
)

void t.test('pickEndpoint() takes unhealthy ones, too, when the service allows all', async (t) => {
  const sick = endpoint('sick', { status: 'unhealthy' })
  t.equal(pick([sick], { service: balancing({ healthPolicy: 'allowAll' }) })?.workload, sick)
})

void t.test('pickEndpoint() weighs by capacity', async (t) => {
  const [small, large] = [endpoint('small'), endpoint('large', { capacity: 3 })]
  const names = [0, 0.24, 0.26, 0.999].map(
    (value) => pick([small, large], { random: () => value })?.workload.name,
  )
  t.strictSame(names, ['small', 'small', 'large', 'large'])
})

void t.test(
  'strict keeps only the endpoints near in every scope, and fails rather than go far',
  async (t) => {
    const strict = balancing({ mode: 'strict', routingPreference: ['node'] })
    const client = sampleWorkload('client', { node: 'node-b' })
    const [far, near] = [endpoint('far'), endpoint('near', { node: 'node-b' })]
    t.equal(pick([far, near], { service: strict, client })?.workload, near)
    t.equal(pick([far], { service: strict, client }), undefined)
    t.equal(pick([far], { service: strict }), undefined)
  },
)

void t.test(
  'failover takes the best leading match and goes further only when nothing is nearer',
  async (t) => {
    const failover = balancing({
      mode: 'failover',
      routingPreference: ['network', 'region', 'zone'],
    })
    const at = (region: string, zone: string) => ({ locality: { region, zone, subzone: '' } })
    const client = sampleWorkload('client', at('r1', 'z1'))
    const near = endpoint('near', at('r1', 'z1'))
    const middle = endpoint('middle', at('r1', 'z2'))
    // The zone's name matches but its region does not: only leading matches count.
    const far = endpoint('far', at('r2', 'z1'))
    const request = { service: failover, client }
    t.equal(pick([far, middle, near], request)?.workload, near)
    t.equal(pick([far, middle, { ...near, status: 'unhealthy' }], request)?.workload, middle)
    t.equal(pick([far], request)?.workload, far)
    t.equal(pick([far], { service: failover })?.workload, far)
  },
)

void t.test(
  'a dual-stack endpoint is reached over the family asked for, within what the service allows',
  async (t) => {
    const dual = endpoint('dual', { addresses: [ip('10.244.0.1'), ip('fd98::1')] })
    const families = (ipFamilies: Service['ipFamilies'], address: string) =>
      pick([dual], { service: { ...service, ipFamilies }, requested: ip(address) })?.address
    t.equal(families('dual', '10.96.0.1'), '10.244.0.1')
    t.equal(families('dual', 'fd98::96'), 'fd98::1')
    t.equal(families('automatic', 'fd98::96'), 'fd98::1')
    t.equal(families('ipv4', 'fd98::96'), '10.244.0.1')
    t.equal(families('ipv6', '10.96.0.1'), 'fd98::1')
    const v4Only = endpoint('v4')
    t.equal(pick([v4Only], { service: { ...service, ipFamilies: 'ipv6' } }), undefined)
  },
)

void t.test('a target port of 0 means the same port', async (t) => {
  const same = endpoint('same', {
    services: new Map([
      [service.key, [{ servicePort: 80, targetPort: 0, appProtocol: 'unknown' }]],
    ]),
  })
  t.equal(pick([same])?.port, 80)
})

void t.test('every candidate is reached by some random number, and no other ever', async (t) => {
  const candidates = fc.array(
    fc.record({ healthy: fc.boolean(), capacity: fc.integer({ min: 0, max: 3 }) }),
    { minLength: 1, maxLength: 8 },
  )
  fc.assert(
    fc.property(candidates, fc.double({ min: 0, max: 0.9999999, noNaN: true }), (list, value) => {
      const endpoints = list.map(({ healthy, capacity }, index) =>
        endpoint(`e${index}`, { status: healthy ? 'healthy' : 'unhealthy', capacity }),
      )
      const eligible = endpoints.filter(
        ({ status, capacity }) => status === 'healthy' && capacity > 0,
      )
      const picked = pick(endpoints, { random: () => value })?.workload
      if (eligible.length === 0) return picked === undefined
      return picked !== undefined && eligible.includes(picked)
    }),
  )
  const both = [endpoint('a'), endpoint('b')]
  const seen = new Set(
    [0.1, 0.9].map((value) => pick(both, { random: () => value })?.workload.name),
  )
  t.equal(seen.size, 2)
})
