// SPDX-License-Identifier: Apache-2.0
// Which endpoint a connection goes to.

import fc from 'fast-check'
import t from 'tap'
import { type PickRequest, pickEndpoint } from '../../mesh/model/load-balance.ts'
import type { LoadBalancing, Service, Workload, WorkloadPort } from '../../mesh/model/types.ts'
import { ip, sampleService, sampleWorkload } from './samples.ts'

const service = sampleService('catalog')
const requested = ip('10.96.0.50')
const clientAddress = ip('10.244.9.9')

function endpoint(name: string, overrides: Partial<Workload> = {}): Workload {
  const services: Workload['services'] = new Map([
    [service.key, [{ servicePort: 80, targetPort: 8080, appProtocol: 'http1', family: 'any' }]],
  ])
  return sampleWorkload(name, { services, ...overrides })
}

function pick(endpoints: readonly Workload[], overrides: Partial<PickRequest> = {}) {
  const request = {
    service,
    servicePort: 80,
    client: undefined,
    clientAddress,
    requested,
    random: () => 0,
  }
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
      [service.key, [{ servicePort: 80, targetPort: 0, appProtocol: 'unknown', family: 'any' }]],
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

const port = (overrides: Partial<WorkloadPort> = {}): WorkloadPort => ({
  servicePort: 80,
  targetPort: 8080,
  appProtocol: 'tcp',
  family: 'any',
  ...overrides,
})
const leavingEndpoint = (name: string, overrides: Partial<Workload> = {}): Workload =>
  endpoint(name, { services: new Map(), leaving: new Map([[service.key, [port()]]]), ...overrides })

void t.test('who is leaving is chosen when nobody is ready, and not before', async (t) => {
  const ready = endpoint('ready')
  const leaving = leavingEndpoint('leaving')
  for (const random of [() => 0, () => 0.999]) {
    t.equal(pick([leaving, ready, leaving], { random })?.workload, ready)
    t.strictSame(pick([leaving], { random }), {
      workload: leaving,
      address: ip('10.244.0.1'),
      port: 8080,
    })
  }
  const sick = endpoint('sick', { status: 'unhealthy' })
  t.equal(pick([sick, leaving])?.workload, leaving)
  t.equal(pick([{ ...leaving, status: 'unhealthy' }])?.workload.name, 'leaving')
  t.equal(pick([leaving], { servicePort: 81 }), undefined)
})

void t.test('a ready endpoint far away beats one next door that is leaving', async (t) => {
  const client = sampleWorkload('client', { node: 'node-b' })
  const request = {
    client,
    service: balancing({ mode: 'failover', routingPreference: ['cluster', 'node'] }),
  }
  const [far, near] = [endpoint('far'), leavingEndpoint('near', { node: 'node-b' })]
  t.equal(pick([near, far], request)?.workload, far)
  const strict = { client, service: balancing({ mode: 'strict', routingPreference: ['node'] }) }
  t.equal(pick([near, far], strict)?.workload, near, 'unless only those next door count')
})

void t.test(
  'one workload may serve a port at several of its own, each with its share',
  async (t) => {
    const twice = endpoint('twice', {
      services: new Map([[service.key, [port(), port({ targetPort: 9090 })]]]),
    })
    const once = endpoint('once', { capacity: 2 })
    const picked = [0.1, 0.3, 0.6, 0.9].map((value) => {
      const chosen = pick([twice, once], { random: () => value })
      return `${chosen?.workload.name}:${chosen?.port}`
    })
    t.strictSame(picked, ['twice:8080', 'twice:9090', 'once:8080', 'once:8080'])
  },
)

void t.test('an endpoint is reached over the family that it is listed in', async (t) => {
  const addresses = [ip('10.244.0.1'), ip('fd98::1')]
  const dual = { ...service, ipFamilies: 'dual' } as const
  const listed = (...ports: WorkloadPort[]) =>
    endpoint('listed', { addresses, services: new Map([[service.key, ports]]) })
  const chosen = (workloads: readonly Workload[], address: string) => {
    const found = pick(workloads, { service: dual, requested: ip(address), random: () => 0.999 })
    return [found?.address, found?.port]
  }
  const apart = listed(port({ family: 'ipv4' }), port({ family: 'ipv6', targetPort: 9090 }))
  t.strictSame(chosen([apart], '10.96.0.1'), ['10.244.0.1', 8080])
  t.strictSame(chosen([apart], 'fd98::96'), ['fd98::1', 9090])
  const other = endpoint('other', { addresses: [ip('10.244.0.2')] })
  const onlySix = listed(port({ family: 'ipv6' }))
  t.strictSame(chosen([other, onlySix], '10.96.0.1'), ['10.244.0.2', 8080])
  t.strictSame(chosen([other, onlySix], 'fd98::96'), ['fd98::1', 8080])
})
