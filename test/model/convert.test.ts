// SPDX-License-Identifier: Apache-2.0
// The wire form of workloads and services, and what is refused of it.

import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import t from 'tap'
import { changeFromAddress, formatResourceProblem } from '../../mesh/model/convert.ts'
import { addressFromService, addressFromWorkload } from '../../mesh/model/convert-to-proto.ts'
import type { Service, Workload } from '../../mesh/model/types.ts'
import { AddressSchema, NetworkMode } from '../../mesh/proto/gen/workload_pb.js'
import { ip, sampleService, sampleWorkload, serviceKey } from './samples.ts'

const WORKLOAD: Workload = sampleWorkload('full', {
  addresses: [ip('10.244.0.1'), ip('fd98::1')],
  hostname: 'db.example.com',
  network: 'west',
  workloadType: 'cronjob',
  nativeTunnel: true,
  services: new Map([
    [serviceKey('shop', 'a'), [{ servicePort: 80, targetPort: 8080, appProtocol: 'grpc' }]],
    [serviceKey('shop', 'b'), []],
  ]),
  authorizationPolicies: ['shop/deny'],
  status: 'unhealthy',
  locality: { region: 'r', zone: 'z', subzone: 's' },
  foundBy: 'service',
  waypoint: {
    destination: { kind: 'hostname', namespace: 'shop', hostname: 'waypoint.shop' },
    hbonePort: 15008,
  },
  networkGateway: {
    destination: { kind: 'address', network: 'west', address: ip('192.0.2.1') },
    hbonePort: 15008,
  },
  capacity: 5,
})

const SERVICE: Service = sampleService('full', {
  addresses: [
    { network: '', address: ip('10.96.0.1'), prefixLength: undefined },
    { network: 'west', address: ip('192.0.2.0'), prefixLength: 24 },
  ],
  subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/x'],
  loadBalancing: {
    mode: 'failover',
    routingPreference: ['network', 'region', 'zone', 'subzone', 'node', 'cluster'],
    healthPolicy: 'allowAll',
  },
  ipFamilies: 'dual',
  canonical: false,
})

void t.test('a workload and a service survive the way over the wire in every field', async (t) => {
  const workload = toBinary(AddressSchema, addressFromWorkload(WORKLOAD))
  const back = changeFromAddress(WORKLOAD.uid, fromBinary(AddressSchema, workload))
  t.strictSame(back, { ok: true, value: { kind: 'workload', workload: WORKLOAD } })
  const service = toBinary(AddressSchema, addressFromService(SERVICE))
  const again = changeFromAddress(SERVICE.key, fromBinary(AddressSchema, service))
  t.strictSame(again, { ok: true, value: { kind: 'service', service: SERVICE } })
})

void t.test('what is left empty on the wire gets the protocol’s defaults', async (t) => {
  const message = create(AddressSchema, { type: { case: 'workload', value: { uid: 'u' } } })
  const change = changeFromAddress('u', message)
  t.match(change, {
    ok: true,
    value: {
      workload: {
        trustDomain: 'cluster.local',
        serviceAccount: 'default',
        clusterId: 'Kubernetes',
        capacity: 1,
        status: 'healthy',
        tunnelProtocol: 'none',
        foundBy: 'address',
        workloadType: 'deployment',
      },
    },
  })
})

void t.test('the order of services in memory does not change the bytes', async (t) => {
  const reversed = { ...WORKLOAD, services: new Map([...WORKLOAD.services].reverse()) }
  const [one, two] = [WORKLOAD, reversed].map((each) =>
    Buffer.from(toBinary(AddressSchema, addressFromWorkload(each))).toString('hex'),
  )
  t.equal(one, two)
})

void t.test('the bytes are those of Istio’s schema', async (t) => {
  // Written by hand from the published field numbers: uid=20, name=1, addresses=3, tunnel_protocol=5, status=17.
  const text = Buffer.concat([
    Buffer.from([0x0a, 0x12]), // Address.workload, 18 bytes
    Buffer.from([0x0a, 0x01, 0x6e]), // name "n"
    Buffer.from([0x1a, 0x04, 10, 0, 0, 7]), // one address
    Buffer.from([0x28, 0x01]), // HBONE
    Buffer.from([0x88, 0x01, 0x01]), // UNHEALTHY
    Buffer.from([0xa2, 0x01, 0x01, 0x75]), // uid "u"
  ])
  const change = changeFromAddress('u', fromBinary(AddressSchema, text))
  t.match(change, {
    ok: true,
    value: {
      workload: {
        uid: 'u',
        name: 'n',
        addresses: ['10.0.0.7'],
        tunnelProtocol: 'hbone',
        status: 'unhealthy',
      },
    },
  })
})

void t.test('a bad resource is refused by name and field', async (t) => {
  type Init = MessageInitShape<typeof AddressSchema>
  const workload = (value: object): Init => ({
    type: { case: 'workload', value: { uid: 'u', ...value } },
  })
  const service = (value: object): Init => ({
    type: { case: 'service', value: { namespace: 'n', hostname: 'h', ...value } },
  })
  const cases: readonly (readonly [string, Init, string])[] = [
    ['u', {}, 'Cannot use resource u: type: is neither a workload nor a service'],
    ['u', workload({ uid: '' }), 'Cannot use resource u: uid: is empty'],
    ['u', workload({ uid: 'x' }), 'Cannot use resource u: uid: is "x", not the resource\'s name'],
    [
      'u',
      workload({ addresses: [new Uint8Array(4), new Uint8Array(3)] }),
      'Cannot use resource u: addresses[1]: has 3 bytes, an address has 4 or 16',
    ],
    ['u', workload({ status: 9 }), 'Cannot use resource u: status: unknown value 9'],
    [
      'u',
      workload({ tunnelProtocol: 3 }),
      'Cannot use resource u: tunnel_protocol: unknown value 3',
    ],
    [
      'u',
      workload({ services: { nonsense: { ports: [] } } }),
      'Cannot use resource u: services: "nonsense" is not namespace/hostname',
    ],
    [
      'u',
      workload({ services: { 'n/h': { ports: [{ servicePort: 70_000 }] } } }),
      'Cannot use resource u: services[n/h][0].service_port: 70000 is not a port',
    ],
    [
      'u',
      workload({ waypoint: { hboneMtlsPort: 15008 } }),
      'Cannot use resource u: waypoint.destination: is neither a host name nor an address',
    ],
    ['n/h', service({ hostname: '' }), 'Cannot use resource n/h: hostname: is empty'],
    [
      'n/x',
      service({}),
      'Cannot use resource n/x: hostname: makes the key "n/h", not the resource\'s name',
    ],
    [
      'n/h',
      service({ addresses: [{ address: new Uint8Array(4), length: 33 }] }),
      'Cannot use resource n/h: addresses[0].length: 33 is more than 32 bits',
    ],
    [
      'n/h',
      service({ loadBalancing: { routingPreference: [0] } }),
      'Cannot use resource n/h: load_balancing.routing_preference[0]: unknown value 0',
    ],
  ]
  for (const [name, init, expected] of cases) {
    const change = changeFromAddress(name, create(AddressSchema, init))
    t.equal(change.ok ? 'accepted' : formatResourceProblem(change.error), expected)
  }
})

void t.test(
  'what is not found by its address travels as host-networked, as peers expect',
  async (t) => {
    for (const [foundBy, mode] of [
      ['address', NetworkMode.STANDARD],
      ['service', NetworkMode.HOST_NETWORK],
    ] as const) {
      const { type } = addressFromWorkload(sampleWorkload('any', { foundBy }))
      t.match(type, { case: 'workload', value: { networkMode: mode } })
    }
  },
)
