// SPDX-License-Identifier: Apache-2.0
// Anybody may write any address into a Service. A claim takes nothing from somebody who has it by right, and who does not get
// what he claims is told.

import t from 'tap'
import { ip } from '../model/samples.ts'
import { kubePod, kubeService, kubeSlice, running, startTranslator } from './objects.ts'

type Spec = NonNullable<Parameters<typeof kubeService>[1]>

interface Claim {
  readonly name: string
  readonly namespace?: string
  readonly clusterIp?: string
  readonly ports?: readonly number[]
  readonly external?: readonly string[]
  /** Makes it one of type LoadBalancer. */
  readonly ingress?: readonly object[]
  readonly nodePort?: number
  /** 1 is the oldest. */
  readonly age?: number
  readonly spec?: Spec
}

let nextIp = 0

function serviceOf(claim: Claim): ReturnType<typeof kubeService> {
  nextIp += 1
  const clusterIPs = [claim.clusterIp ?? `10.96.9.${nextIp}`]
  const { ports = [80], ingress, nodePort, age = 1, namespace = 'shop' } = claim
  const service = kubeService(
    claim.name,
    {
      type: ingress === undefined ? 'ClusterIP' : 'LoadBalancer',
      clusterIPs,
      clusterIP: clusterIPs[0] ?? '',
      externalIPs: [...(claim.external ?? [])],
      ports: ports.map((port) => ({
        name: `p${port}`,
        port,
        ...(nodePort === undefined ? {} : { nodePort }),
      })),
      ...claim.spec,
    },
    { namespace, creationTimestamp: `2026-01-0${age}T00:00:00Z` },
  )
  if (ingress === undefined) return service
  // What the API server takes is not for the compiler to say.
  return { ...service, status: { loadBalancer: { ingress: ingress as { ip: string }[] } } }
}

/** The Services, and who has an address and port. */
function start(...claims: readonly Claim[]) {
  const run = startTranslator()
  run.translator.complete()
  const put = (claim: Claim): void => run.translator.upsert('Service', serviceOf(claim))
  claims.forEach(put)
  const at = (address: string, port = 80): string | undefined => {
    const match = run.state.findService({ address: ip(address), port }, 'shop')
    return match && `${match.service.name} ${match.by}`
  }
  return { ...run, put, at }
}

const OUTSIDE = '198.51.100.7'

void t.test('external IPs and those of load balancers lead to their Service, by its ports', (t) => {
  const { at, service, problems, lost } = start(
    { name: 'web', external: [OUTSIDE, '2001:db8::7'] },
    { name: 'mail', ports: [25, 143], ingress: [{ ip: '198.51.100.8' }] },
  )
  t.equal(at(OUTSIDE), 'web external')
  t.equal(at('2001:db8::7'), 'web external')
  t.equal(at(OUTSIDE, 22), undefined)
  t.equal(at('198.51.100.8', 143), 'mail external')
  t.strictSame(service('web')?.externalAddresses, [OUTSIDE, '2001:db8::7'])
  t.strictSame([problems, lost()], [[], []])
  t.end()
})

void t.test(
  'a load balancer with a host name, or one that must see the traffic, claims nothing',
  (t) => {
    const { at, service, problems } = start({
      name: 'web',
      ingress: [
        { hostname: 'lb.example.com' },
        { ip: OUTSIDE, ipMode: 'Proxy' },
        { ip: '198.51.100.8', ipMode: 'VIP' },
        { ip: 'nonsense' },
      ],
    })
    t.equal(at(OUTSIDE), undefined)
    t.equal(at('198.51.100.8'), 'web external')
    t.equal(service('web')?.addresses.length, 2)
    t.match(problems, [{ field: 'status.loadBalancer.ingress[3].ip' }])
    // Of another type the status is left from before, or somebody's fancy.
    const other = start({ name: 'web', ingress: [{ ip: OUTSIDE }], spec: { type: 'ClusterIP' } })
    t.equal(other.at(OUTSIDE), undefined)
    const headless = start({
      name: 'web',
      external: [OUTSIDE],
      spec: { clusterIP: 'None', clusterIPs: ['None'] },
    })
    t.equal(headless.at(OUTSIDE), undefined, 'a headless Service leads nowhere')
    t.end()
  },
)

void t.test('nobody loses an address that he has by right', (t) => {
  const run = start(
    { name: 'victim', namespace: 'blue', clusterIp: '10.96.0.1', age: 9 },
    {
      name: 'thief',
      external: ['10.96.0.1', '10.244.0.1', '172.30.0.2', OUTSIDE],
      ingress: [{ ip: '10.96.0.1' }, { ip: '172.30.0.2' }],
      ports: [80, 10_250],
    },
  )
  run.translator.upsert(
    'Pod',
    kubePod('db-0', { namespace: 'blue', status: running('10.244.0.1') }),
  )
  run.translator.upsert('Node', {
    metadata: { name: 'node-b' },
    status: { addresses: [{ type: 'InternalIP', address: '172.30.0.2' }] },
  })
  t.equal(run.at('10.96.0.1'), 'victim own')
  t.equal(run.at('10.244.0.1'), undefined)
  t.equal(run.at('172.30.0.2', 10_250), undefined)
  t.equal(run.at(OUTSIDE), 'thief external')
  t.strictSame(run.lost(), [
    'shop/thief status.loadBalancer.ingress[0].ip: 10.96.0.1 does not lead to this Service: it is the cluster IP of Service blue/victim',
    'shop/thief status.loadBalancer.ingress[1].ip: 172.30.0.2 does not lead to this Service: it is the address of Node node-b',
    'shop/thief spec.externalIPs[1]: 10.244.0.1 does not lead to this Service: it is the address of Pod blue/db-0',
  ])
  // Whoever goes leaves it to those who asked before.
  run.translator.delete('Pod', 'blue', 'db-0')
  run.translator.delete('Service', 'blue', 'victim')
  t.equal(run.at('10.244.0.1'), 'thief external')
  t.equal(run.at('10.96.0.1'), 'thief external')
  t.equal(run.lost().length, 1)
  run.put({ name: 'victim', clusterIp: '10.96.0.1', age: 9 })
  t.equal(run.at('10.96.0.1'), 'victim own')
  t.end()
})

void t.test('of equals the oldest has an address, after whom a load balancer gave it to', (t) => {
  const run = start(
    { name: 'young', external: [OUTSIDE], age: 3 },
    { name: 'old', external: [OUTSIDE], age: 2 },
    { name: 'other', external: [OUTSIDE], age: 1, ports: [25] },
  )
  t.equal(run.at(OUTSIDE), 'old external')
  t.equal(run.at(OUTSIDE, 25), 'other external', 'other ports are another matter')
  t.strictSame(run.lost(), [
    `shop/young spec.externalIPs[0]: ${OUTSIDE} does not lead to this Service: its port 80 belongs to Service shop/old already`,
  ])
  run.put({ name: 'balanced', ingress: [{ ip: OUTSIDE }], age: 4, ports: [80, 443] })
  t.equal(run.at(OUTSIDE), 'balanced external')
  t.equal(run.lost().length, 2)
  run.put({ name: 'third', ingress: [{ ip: OUTSIDE }], age: 5, ports: [443] })
  run.translator.delete('Service', 'shop', 'balanced')
  t.equal(run.at(OUTSIDE), 'old external')
  t.equal(run.at(OUTSIDE, 443), 'third external')
  run.translator.delete('Service', 'shop', 'old')
  t.equal(run.at(OUTSIDE), 'young external')
  t.strictSame(run.lost(), [])
  t.end()
})

void t.test('one that lost an address takes none of its ports from the next', (t) => {
  const run = start(
    { name: 'first', external: [OUTSIDE], age: 1, ports: [80] },
    { name: 'second', external: [OUTSIDE], age: 2, ports: [80, 443] },
    { name: 'third', external: [OUTSIDE], age: 3, ports: [443] },
  )
  t.equal(run.at(OUTSIDE, 443), 'third external')
  t.end()
})

void t.test('two Services of one cluster IP or node port: the older one has it', (t) => {
  const run = start(
    { name: 'b', clusterIp: '10.96.0.9', nodePort: 30_080, age: 2 },
    { name: 'a', clusterIp: '10.96.0.9', nodePort: 30_080, age: 2 },
    { name: 'c', clusterIp: '10.96.0.9', nodePort: 30_080, age: 1 },
  )
  run.translator.upsert('Node', {
    metadata: { name: 'node-b' },
    status: {
      addresses: [
        { type: 'InternalIP', address: '172.30.0.2' },
        { type: 'ExternalIP', address: '203.0.113.2' },
        { type: 'Hostname', address: 'node-b' },
      ],
    },
  })
  t.equal(run.at('10.96.0.9'), 'c own')
  t.equal(run.at('172.30.0.2', 30_080), 'c nodePort')
  t.equal(run.at('203.0.113.2', 30_080), 'c nodePort')
  t.equal(run.lost().length, 4)
  t.match(run.lost(), [
    /^shop\/b spec.clusterIPs\[0\]: 10.96.0.9 does not lead .* older Service shop\/[ac]$/,
    /^shop\/b spec.ports\[port=80\].nodePort: node port 30080 does not lead .* shop\/[ac]$/,
  ])
  run.translator.delete('Service', 'shop', 'c')
  t.equal(run.at('10.96.0.9'), 'a own')
  t.equal(run.at('172.30.0.2', 30_080), 'a nodePort')
  t.end()
})

void t.test('a slice of a tenant’s own leads nobody but its Service’s callers', (t) => {
  const run = start({ name: 'trap', namespace: 'red', clusterIp: '10.96.0.8' })
  run.translator.upsert(
    'Pod',
    kubePod('db-0', { namespace: 'blue', status: running('10.244.0.1') }),
  )
  const before = run.state.findWorkload(ip('10.244.0.1'))
  for (const address of ['10.244.0.1', '10.96.0.1', '172.30.0.2', '203.0.113.5']) {
    const slice = kubeSlice(`trap-${address}`, 'trap', [
      { addresses: [address], conditions: { ready: false, terminating: true } },
    ])
    run.translator.upsert('EndpointSlice', {
      ...slice,
      metadata: { ...slice.metadata, namespace: 'red' },
    })
    t.equal(run.at(address), undefined)
  }
  const after = run.state.findWorkload(ip('10.244.0.1'))
  t.strictSame({ ...after, leaving: new Map() }, before, 'its health is what it was')
  t.end()
})

void t.test('an address that means something else on every host is no Service’s', (t) => {
  const special = ['127.0.0.1', '0.0.0.0', '169.254.169.254', '224.0.0.1', '::1', '::', 'fe80::1']
  const { at, lost } = start(
    { name: 'web', external: special },
    { name: 'status', ingress: [{ ip: '169.254.20.10' }] },
  )
  for (const address of [...special, '169.254.20.10']) t.equal(at(address), undefined, address)
  t.equal(lost().length, special.length + 1)
  t.match(lost()[0], /127\.0\.0\.1 does not lead to this Service: it means something else/)
  t.end()
})

void t.test('a Service that claims very many addresses costs little and fills no log', (t) => {
  const many = Array.from({ length: 5_000 }, (_, at) => `100.64.${at >> 8}.${at & 255}`)
  const { at, lost, problems } = start(
    { name: 'first', external: many },
    { name: 'second', external: many, age: 2 },
  )
  t.equal(at('100.64.0.0'), 'first external')
  t.equal(at(many.at(-1) ?? ''), undefined)
  t.match(problems, [{ name: 'first', reason: /more than 256 addresses/ }, { name: 'second' }])
  t.equal(lost().length, 21)
  t.match(lost().at(-1), /no more are told/)
  t.end()
})
