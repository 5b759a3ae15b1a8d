// SPDX-License-Identifier: Apache-2.0
// The wire form of workloads and services, and what is refused of it. The witness is protobuf-es over Istio's schema: what
// our tables write it reads, what it writes our tables read, and neither knows of the other.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import fc from 'fast-check'
import t from 'tap'
import { ipAddressToBytes } from '../../mesh/model/address.ts'
import type {
  GatewayAddress,
  Service,
  ServicePort,
  Workload,
  WorkloadPort,
} from '../../mesh/model/types.ts'
import {
  type Address,
  AddressSchema,
  type GatewayAddressSchema,
  NetworkMode,
} from '../../mesh/proto/gen/workload_pb.js'
import { formatResourceProblem } from '../../mesh/xds/resource-type.ts'
import { ADDRESS, type AddressResource } from '../../mesh/xds/types/address.ts'
import { ip, sampleService, sampleWorkload, serviceKey } from './samples.ts'

const WORKLOAD: Workload = sampleWorkload('full', {
  addresses: [ip('10.244.0.1'), ip('fd98::1')],
  hostname: 'db.example.com',
  network: 'west',
  workloadType: 'cronjob',
  nativeTunnel: true,
  services: new Map([
    [
      serviceKey('shop', 'a'),
      [{ servicePort: 80, targetPort: 8080, appProtocol: 'grpc', family: 'ipv6' }],
    ],
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
  leaving: new Map([
    [
      serviceKey('shop', 'c'),
      [{ servicePort: 80, targetPort: 8080, appProtocol: 'tcp', family: 'any' }],
    ],
  ]),
  networkPolicies: ['shop/isolated'],
  peerGroups: ['group'],
  namedPorts: [{ name: 'http', port: 8080 }],
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
    sessionAffinity: 'none',
  },
  ipFamilies: 'dual',
  canonical: false,
  externalAddresses: [ip('192.0.2.7'), ip('2001:db8::7')],
  nodePorts: [{ nodePort: 30_080, servicePort: 80 }],
  nodePortScope: 'node',
})

/** The witness's message of a resource, field by field in its own words. */
function witness(resource: AddressResource): Address {
  return resource.kind === 'workload' ? ofWorkload(resource.workload) : ofService(resource.service)
}

const number = (words: readonly (string | undefined)[], word: string): number => words.indexOf(word)

const portOf = ({ servicePort, targetPort, appProtocol }: ServicePort) => ({
  servicePort,
  targetPort,
  appProtocol: number(['unknown', 'http1', 'http2', 'grpc', 'tcp', 'tls'], appProtocol),
})

function gatewayOf(
  gateway: GatewayAddress | undefined,
): MessageInitShape<typeof GatewayAddressSchema> | undefined {
  if (gateway === undefined) return undefined
  const { destination, hbonePort: hboneMtlsPort } = gateway
  if (destination.kind === 'hostname') {
    const { namespace, hostname } = destination
    return { hboneMtlsPort, destination: { case: 'hostname', value: { namespace, hostname } } }
  }
  const { network, address } = destination
  const value = { network, address: ipAddressToBytes(address) }
  return { hboneMtlsPort, destination: { case: 'address', value } }
}

function ofWorkload(workload: Workload): Address {
  const { waypoint, networkGateway, foundBy, services, leaving: _leaving, ...rest } = workload
  const { networkPolicies: _policies, peerGroups: _groups, namedPorts: _ports, ...same } = rest
  const [reachedBy, gateway] = [gatewayOf(waypoint), gatewayOf(networkGateway)]
  return create(AddressSchema, {
    type: {
      case: 'workload',
      value: {
        ...same,
        addresses: workload.addresses.map(ipAddressToBytes),
        authorizationPolicies: [...workload.authorizationPolicies],
        tunnelProtocol: number(['none', 'hbone'], workload.tunnelProtocol),
        workloadType: number(['deployment', 'cronjob', 'pod', 'job'], workload.workloadType),
        status: number(['healthy', 'unhealthy'], workload.status),
        networkMode: foundBy === 'address' ? NetworkMode.STANDARD : NetworkMode.HOST_NETWORK,
        services: Object.fromEntries(
          [...services].map(([key, ports]) => [key, { ports: ports.map(portOf) }]),
        ),
        ...(reachedBy === undefined ? {} : { waypoint: reachedBy }),
        ...(gateway === undefined ? {} : { networkGateway: gateway }),
      },
    },
  })
}

function ofService(service: Service): Address {
  const {
    key: _key,
    waypoint,
    weightedWaypoints,
    loadBalancing,
    externalAddresses: _externalAddresses,
    nodePorts: _nodePorts,
    nodePortScope: _nodePortScope,
    ...same
  } = service
  const scopes = [undefined, 'region', 'zone', 'subzone', 'node', 'cluster', 'network']
  const reachedBy = gatewayOf(waypoint)
  return create(AddressSchema, {
    type: {
      case: 'service',
      value: {
        ...same,
        addresses: service.addresses.map(({ network, address, prefixLength }) => ({
          network,
          address: ipAddressToBytes(address),
          ...(prefixLength === undefined ? {} : { length: prefixLength }),
        })),
        ports: service.ports.map(portOf),
        subjectAltNames: [...service.subjectAltNames],
        loadBalancing: {
          routingPreference: loadBalancing.routingPreference.map((scope) => number(scopes, scope)),
          mode: number(['standard', 'strict', 'failover', 'passthrough'], loadBalancing.mode),
          healthPolicy: number(['onlyHealthy', 'allowAll'], loadBalancing.healthPolicy),
        },
        ipFamilies: number(['automatic', 'ipv4', 'ipv6', 'dual'], service.ipFamilies),
        weightedWaypoints: weightedWaypoints.map(({ destination, weight }) => {
          const to = gatewayOf(destination)
          return { weight, ...(to !== undefined && { destination: to }) }
        }),
        ...(reachedBy === undefined ? {} : { waypoint: reachedBy }),
      },
    },
  })
}

/** Plain objects, as decoders make them. */
const made = <T extends object>(fields: { [Name in keyof T]: fc.Arbitrary<T[Name]> }) =>
  fc.record<T>(fields, { noNullPrototype: true })

// protobuf-es drops a byte order mark in front of a text, and half a surrogate pair is no text on any wire.
const text = fc.string({
  unit: fc.constantFrom('a', 'Z', '-', '.', 'é', '中', '😀', '\u0000'),
  maxLength: 300,
})
const name = fc.string({ unit: fc.constantFrom('a', 'b', '-', 'é'), minLength: 1, maxLength: 40 })
const ipAddress = fc.oneof(
  fc.ipV4().map(ip),
  fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => {
    const groups = Array.from({ length: 8 }, (_, index) =>
      (((bytes[2 * index] ?? 0) << 8) | (bytes[2 * index + 1] ?? 0)).toString(16),
    )
    return ip(groups.join(':'))
  }),
)
const port = made<ServicePort>({
  servicePort: fc.nat(65_535),
  targetPort: fc.nat(65_535),
  appProtocol: fc.constantFrom('unknown', 'http1', 'http2', 'grpc', 'tcp', 'tls'),
})
const workloadPort: fc.Arbitrary<WorkloadPort> = port.chain((each) =>
  fc
    .constantFrom<WorkloadPort['family']>('any', 'ipv4', 'ipv6')
    .map((family) => ({ ...each, family })),
)
const someGateway: fc.Arbitrary<GatewayAddress> = made({
  destination: fc.oneof(
    made({ kind: fc.constant('hostname' as const), namespace: text, hostname: text }),
    made({ kind: fc.constant('address' as const), network: text, address: ipAddress }),
  ),
  hbonePort: fc.nat(65_535),
})
const gateway: fc.Arbitrary<GatewayAddress | undefined> = fc.option(someGateway, { nil: undefined })
const keyOf = (namespace: string, hostname: string) => `${namespace}/${hostname}`
const memberships = fc
  .array(fc.tuple(name, name, fc.array(workloadPort, { maxLength: 5 })), { maxLength: 5 })
  .map((entries) => new Map(entries.map(([left, right, ports]) => [keyOf(left, right), ports])))

const workload: fc.Arbitrary<AddressResource> = made({
  uid: name,
  name: text,
  namespace: text,
  addresses: fc.array(ipAddress, { maxLength: 4 }),
  hostname: text,
  network: text,
  tunnelProtocol: fc.constantFrom('none', 'hbone'),
  trustDomain: name,
  serviceAccount: name,
  node: text,
  canonicalName: text,
  canonicalRevision: text,
  workloadType: fc.constantFrom('deployment', 'cronjob', 'pod', 'job'),
  workloadName: text,
  nativeTunnel: fc.boolean(),
  services: memberships,
  authorizationPolicies: fc.array(text, { maxLength: 3 }),
  status: fc.constantFrom('healthy', 'unhealthy'),
  clusterId: name,
  locality: made({ region: text, zone: text, subzone: text }),
  foundBy: fc.constantFrom('address', 'service'),
  waypoint: gateway,
  networkGateway: gateway,
  capacity: fc.nat(0xffff_ffff),
  leaving: memberships,
  networkPolicies: fc.array(text, { maxLength: 3 }),
  peerGroups: fc.array(text, { maxLength: 3 }),
  namedPorts: fc.array(made({ name, port: fc.nat(65_535) }), { maxLength: 3 }),
}).map((each) => ({ kind: 'workload', workload: each as unknown as Workload }))

const service: fc.Arbitrary<AddressResource> = made({
  name: text,
  namespace: name,
  hostname: name,
  addresses: fc.array(
    made({
      network: text,
      address: ipAddress,
      prefixLength: fc.option(fc.nat(31), { nil: undefined }),
    }),
    { maxLength: 4 },
  ),
  ports: fc.array(port, { maxLength: 5 }),
  subjectAltNames: fc.array(text, { maxLength: 3 }),
  waypoint: gateway,
  weightedWaypoints: fc.array(made({ destination: someGateway, weight: fc.nat(0xffff_ffff) }), {
    maxLength: 2,
  }),
  loadBalancing: made({
    routingPreference: fc.array(
      fc.constantFrom('region', 'zone', 'subzone', 'node', 'cluster', 'network'),
      { maxLength: 6 },
    ),
    mode: fc.constantFrom('standard', 'strict', 'failover', 'passthrough'),
    healthPolicy: fc.constantFrom('onlyHealthy', 'allowAll'),
    // A field of ours is not in the witness's schema.
    sessionAffinity: fc.constant('none'),
  }),
  ipFamilies: fc.constantFrom('automatic', 'ipv4', 'ipv6', 'dual'),
  canonical: fc.boolean(),
  externalAddresses: fc.array(ipAddress, { maxLength: 3 }),
  nodePorts: fc.array(made({ nodePort: fc.nat(65_535), servicePort: fc.nat(65_535) }), {
    maxLength: 3,
  }),
  nodePortScope: fc.constantFrom('cluster', 'node'),
}).map((each) => ({
  kind: 'service',
  service: { key: keyOf(each.namespace, each.hostname), ...each } as unknown as Service,
}))

const resource = fc.oneof(workload, service)

/** As somebody has it who does not know our own fields. */
function foreign(resource: AddressResource): AddressResource {
  if (resource.kind === 'service') {
    const own = { externalAddresses: [], nodePorts: [], nodePortScope: 'cluster' } as const
    return { kind: 'service', service: { ...resource.service, ...own } }
  }
  const services = new Map(
    [...resource.workload.services].map(([key, ports]) => [
      key,
      ports.map((each) => ({ ...each, family: 'any' as const })),
    ]),
  )
  const own = { leaving: new Map(), networkPolicies: [], peerGroups: [], namedPorts: [] }
  return { kind: 'workload', workload: { ...resource.workload, services, ...own } }
}

/** A message without the fields that its reader did not know, whether they were there or not. */
function known<T>(message: T): T {
  if (typeof message !== 'object' || message === null || message instanceof Uint8Array)
    return message
  delete (message as { $unknown?: unknown }).$unknown
  for (const each of Object.values(message)) known(each)
  return message
}

/** What is left out on the wire because it is the protocol's default, said. */
function withDefaults(message: Address): Address {
  if (message.type.case === 'workload') {
    const { value } = message.type
    value.trustDomain ||= 'cluster.local'
    value.serviceAccount ||= 'default'
    value.clusterId ||= 'Kubernetes'
    value.capacity ??= 1
    const { region = '', zone = '', subzone = '' } = value.locality ?? {}
    if (region + zone + subzone === '') delete value.locality
  }
  if (message.type.case === 'service') {
    const { loadBalancing } = message.type.value
    const isPlain = loadBalancing?.mode === 0 && loadBalancing.healthPolicy === 0
    if (isPlain && loadBalancing.routingPreference.length === 0)
      delete message.type.value.loadBalancing
  }
  return message
}

void t.test(
  'what the tables write, somebody who knows Istio’s fields only reads as the same',
  async (t) => {
    fc.assert(
      fc.property(resource, (each) => {
        const read = fromBinary(AddressSchema, ADDRESS.encode(each))
        t.same(withDefaults(known(read)), withDefaults(witness(each)))
      }),
      { numRuns: 300 },
    )
  },
)

void t.test('what is written in every field, our own included, is read as the same', async (t) => {
  fc.assert(
    fc.property(resource, (each) => {
      t.strictSame(ADDRESS.decode(ADDRESS.name(each), ADDRESS.encode(each)), {
        ok: true,
        value: each,
      })
    }),
    { numRuns: 300 },
  )
})

void t.test('what protobuf-es writes, the tables read as the same', async (t) => {
  fc.assert(
    fc.property(resource, (each) => {
      const bytes = toBinary(AddressSchema, witness(each))
      t.strictSame(ADDRESS.decode(ADDRESS.name(each), bytes), {
        ok: true,
        value: foreign(each),
      })
    }),
    { numRuns: 300 },
  )
})

void t.test(
  'session affinity goes over the wire, and readers of Istio’s schema pass over it',
  async (t) => {
    const loadBalancing = { ...SERVICE.loadBalancing, sessionAffinity: 'clientIp' } as const
    const each = { kind: 'service', service: { ...SERVICE, loadBalancing } } as const
    const bytes = ADDRESS.encode(each)
    t.strictSame(ADDRESS.decode(ADDRESS.name(each), bytes), { ok: true, value: each })
    const read = fromBinary(AddressSchema, bytes, { readUnknownFields: false })
    t.same(withDefaults(read), withDefaults(witness(each)))
  },
)

void t.test('fields that nobody knows are passed over, wherever they are', async (t) => {
  const unknown = (writer: BinaryWriter): BinaryWriter =>
    writer
      .tag(5000, WireType.Varint)
      .uint64(2n ** 63n)
      .tag(5001, WireType.Bit64)
      .fixed64(1n)
      .tag(5002, WireType.LengthDelimited)
      .string('later')
      .tag(5003, WireType.StartGroup)
      .tag(1, WireType.StartGroup)
      .tag(2, WireType.LengthDelimited)
      .string('inside')
      .tag(1, WireType.EndGroup)
      .tag(5003, WireType.EndGroup)
      .tag(5004, WireType.Bit32)
      .fixed32(1)
  fc.assert(
    fc.property(resource, (each) => {
      const inside = ADDRESS.encode(each)
      // The one field of an Address is the workload or the service: ours goes behind its last.
      const opened = new BinaryWriter()
      const field = each.kind === 'workload' ? 1 : 2
      const content = inside.subarray(1 + varintLength(inside.length))
      unknown(opened)
        .tag(field, WireType.LengthDelimited)
        .bytes(unknown(new BinaryWriter().raw(content)).finish())
      t.strictSame(ADDRESS.decode(ADDRESS.name(each), unknown(opened).finish()), {
        ok: true,
        value: each,
      })
    }),
    { numRuns: 100 },
  )
})

/** How many bytes the length of the content takes when content, length and tag take so many. */
function varintLength(total: number): number {
  for (let bytes = 1; ; bytes += 1) if (total - 1 - bytes < 128 ** bytes) return bytes
}

void t.test('whatever the bytes are, the answer is a resource or a problem', async (t) => {
  const mutated = fc
    .tuple(resource, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 8 }))
    .map(([each, changes]) => {
      const bytes = ADDRESS.encode(each)
      for (const [at, byte] of changes) if (bytes.length > 0) bytes[at % bytes.length] = byte
      return bytes
    })
  const cut = fc.tuple(resource, fc.nat()).map(([each, at]) => {
    const bytes = ADDRESS.encode(each)
    return bytes.subarray(0, at % Math.max(1, bytes.length))
  })
  let refused = 0
  fc.assert(
    fc.property(fc.oneof(mutated, cut, fc.uint8Array({ maxLength: 400 })), (bytes) => {
      const read = ADDRESS.decode('any', bytes)
      if (read.ok) return
      refused += 1
      t.ok(read.error.reason.length > 0)
    }),
    { numRuns: 2_000 },
  )
  t.ok(refused > 1_000)
})

void t.test('a hostile message is refused for what it would cost', async (t) => {
  const reasonOf = (bytes: Uint8Array): string => {
    const read = ADDRESS.decode('u', bytes)
    return read.ok ? 'accepted' : formatResourceProblem(read.error)
  }
  const inWorkload = (content: Uint8Array): Uint8Array =>
    new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(content).finish()
  t.match(reasonOf(new Uint8Array(3 * 1024 * 1024)), /resource: has 3145728 bytes, more than/)
  // Field 16 has a tag of two bytes; 50,000 empty policies.
  const policies = Buffer.alloc(3 * 50_000)
  for (let at = 0; at < policies.length; at += 3) policies.set([0x82, 0x01, 0x00], at)
  t.match(reasonOf(inWorkload(policies)), /authorization_policies: has more than 10000 entries/)
  const deep = Buffer.alloc(1_000_000, (15 << 3) | 3)
  t.match(reasonOf(inWorkload(deep)), /nests groups too deep/)
  t.match(reasonOf(Uint8Array.of(0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f)), /announces 4294967295 bytes/)
  t.match(reasonOf(inWorkload(Uint8Array.of(0x0a, 0x02, 0xc3, 0x28))), /name: is not UTF-8/)
  t.match(reasonOf(inWorkload(Uint8Array.of(0x08, 0x01))), /name: has the wire type 0, not 2/)
  t.match(reasonOf(Buffer.alloc(11, 0xff)), /more than 64 bits/)
})

void t.test('a text of a resource does not keep the message alive that it came in', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const value = sampleWorkload('small', { workloadName: 'a'.repeat(40) })
  const bytes = ADDRESS.encode({ kind: 'workload', workload: value })
  const resources: AddressResource[] = []
  const messages: WeakRef<ArrayBufferLike>[] = []
  for (let index = 0; index < 50; index += 1) {
    const message = new Uint8Array(bytes.length)
    message.set(bytes)
    messages.push(new WeakRef(message.buffer))
    const read = ADDRESS.decode(value.uid, message)
    if (read.ok) resources.push(read.value)
  }
  // What a turn has looked at through a WeakRef stays to its end.
  await nextTurn()
  collect()
  const held = messages.filter((message) => message.deref() !== undefined).length
  t.ok(held < 5, `${held} of 50 messages are held`)
  t.equal(resources.length, 50)
})

void t.test('a workload and a service survive the way over the wire in every field', async (t) => {
  for (const each of [
    { kind: 'workload', workload: WORKLOAD },
    { kind: 'service', service: SERVICE },
  ] as const)
    t.strictSame(ADDRESS.decode(ADDRESS.name(each), ADDRESS.encode(each)), {
      ok: true,
      value: each,
    })
})

void t.test('what is left empty on the wire gets the protocol’s defaults', async (t) => {
  const message = create(AddressSchema, { type: { case: 'workload', value: { uid: 'u' } } })
  t.match(ADDRESS.decode('u', toBinary(AddressSchema, message)), {
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
        locality: { region: '', zone: '', subzone: '' },
      },
    },
  })
})

void t.test('a capacity of 0 is 0, and none is 1', async (t) => {
  for (const capacity of [0, 1, 2]) {
    const each: AddressResource = { kind: 'workload', workload: sampleWorkload('w', { capacity }) }
    t.match(ADDRESS.decode(ADDRESS.name(each), ADDRESS.encode(each)), {
      value: { workload: { capacity } },
    })
  }
})

void t.test('the order of services in memory does not change the bytes', async (t) => {
  const reversed = { ...WORKLOAD, services: new Map([...WORKLOAD.services].reverse()) }
  const [one, two] = [WORKLOAD, reversed].map((each) =>
    Buffer.from(ADDRESS.encode({ kind: 'workload', workload: each })).toString('hex'),
  )
  t.equal(one, two)
})

void t.test('the bytes are those of Istio’s schema', async (t) => {
  // Written by hand from the published field numbers: uid=20, name=1, addresses=3, tunnel_protocol=5, status=17.
  const bytes = Buffer.concat([
    Buffer.from([0x0a, 0x12]), // Address.workload, 18 bytes
    Buffer.from([0x0a, 0x01, 0x6e]), // name "n"
    Buffer.from([0x1a, 0x04, 10, 0, 0, 7]), // one address
    Buffer.from([0x28, 0x01]), // HBONE
    Buffer.from([0x88, 0x01, 0x01]), // UNHEALTHY
    Buffer.from([0xa2, 0x01, 0x01, 0x75]), // uid "u"
  ])
  t.match(ADDRESS.decode('u', bytes), {
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
    const read = ADDRESS.decode(name, toBinary(AddressSchema, create(AddressSchema, init)))
    t.equal(read.ok ? 'accepted' : formatResourceProblem(read.error), expected)
  }
})

void t.test(
  'what is not found by its address travels as host-networked, as peers expect',
  async (t) => {
    for (const [foundBy, mode] of [
      ['address', NetworkMode.STANDARD],
      ['service', NetworkMode.HOST_NETWORK],
    ] as const) {
      const workload = sampleWorkload('any', { foundBy })
      const { type } = fromBinary(AddressSchema, ADDRESS.encode({ kind: 'workload', workload }))
      t.match(type, { case: 'workload', value: { networkMode: mode } })
    }
  },
)

void t.test('what is refused for its length is not told at length', (t) => {
  const endless = `${'x'.repeat(1_000_000)}/`
  const services = new Map([[serviceKey('shop', endless), []]])
  const bytes = ADDRESS.encode({ kind: 'workload', workload: { ...WORKLOAD, services } })
  const refused = ADDRESS.decode(endless, bytes)
  t.match(refused, { ok: false, error: { field: /^services/ } })
  t.ok(JSON.stringify(refused).length < 2000)
  t.end()
})
