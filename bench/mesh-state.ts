// SPDX-License-Identifier: Apache-2.0
// What the mesh state costs: memory for 10,000 workloads and 1,000 services, time to apply one change and to look
// something up. Run by itself: node --expose-gc bench/mesh-state.ts [--json FILE]

import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { parseIpAddress } from '../mesh/model/address.ts'
import { pickEndpoint } from '../mesh/model/load-balance.ts'
import { MeshState } from '../mesh/model/mesh-state.ts'
import type {
  IpAddress,
  MeshChange,
  Service,
  ServiceKey,
  Workload,
  WorkloadUid,
} from '../mesh/model/types.ts'
import { ADDRESS } from '../mesh/xds/types/address.ts'

const WORKLOADS = 10_000
const SERVICES = 1_000
const NODES = 100
const CHANGES = 5_000
const LOOKUPS = 1_000_000
/** Pods with a name of a Deployment's pattern and two addresses, as in a dual-stack cluster. */
const HASH = '6b7f9c4d58'

const { values } = parseArgs({ options: { json: { type: 'string' } } })

function ip(text: string): IpAddress {
  const address = parseIpAddress(text)
  if (address === undefined) throw new Error(`not an address: ${text}`)
  return address
}

const podIp = (index: number): IpAddress => ip(`10.244.${index >> 8}.${index & 255}`)
const vip = (index: number): IpAddress => ip(`10.96.${index >> 8}.${index & 255}`)
const hostname = (index: number): string =>
  `service-${index}.namespace-${index % 50}.svc.cluster.local`
const keyOf = (index: number): ServiceKey =>
  `namespace-${index % 50}/${hostname(index)}` as ServiceKey

function makeWorkload(index: number, status: Workload['status']): Workload {
  const service = index % SERVICES
  const namespace = `namespace-${service % 50}`
  const name = `service-${service}-${HASH}-${index.toString(36).padStart(5, 'x')}`
  return {
    uid: `Kubernetes//Pod/${namespace}/${name}` as WorkloadUid,
    name,
    namespace,
    addresses: [podIp(index), ip(`fd98:244::${index.toString(16)}`)],
    hostname: '',
    network: '',
    tunnelProtocol: 'hbone',
    trustDomain: 'cluster.local',
    serviceAccount: `service-${service}`,
    node: `node-${index % NODES}`,
    canonicalName: `service-${service}`,
    canonicalRevision: 'v1',
    workloadType: 'deployment',
    workloadName: `service-${service}`,
    nativeTunnel: false,
    services: new Map([
      [
        keyOf(service),
        [{ servicePort: 80, targetPort: 8080, appProtocol: 'http1', family: 'any' }],
      ],
    ]),
    authorizationPolicies: [],
    networkPolicies: [],
    peerGroups: [],
    namedPorts: [],
    status,
    clusterId: 'Kubernetes',
    locality: { region: 'region-1', zone: `zone-${index % 3}`, subzone: '' },
    foundBy: 'address',
    waypoint: undefined,
    networkGateway: undefined,
    capacity: 1,
    leaving: new Map(),
  }
}

function makeService(index: number): Service {
  return {
    key: keyOf(index),
    name: `service-${index}`,
    namespace: `namespace-${index % 50}`,
    hostname: hostname(index),
    addresses: [{ network: '', address: vip(index), prefixLength: undefined }],
    ports: [{ servicePort: 80, targetPort: 8080, appProtocol: 'http1' }],
    subjectAltNames: [],
    waypoint: undefined,
    weightedWaypoints: [],
    loadBalancing: {
      routingPreference: [],
      mode: 'standard',
      healthPolicy: 'onlyHealthy',
      sessionAffinity: 'none',
    },
    ipFamilies: 'ipv4',
    canonical: true,
    externalAddresses: [],
    nodePorts: [],
    nodePortScope: 'cluster',
  }
}

const workloadBytes = (index: number, status: Workload['status'] = 'healthy'): Uint8Array =>
  ADDRESS.encode({ kind: 'workload', workload: makeWorkload(index, status) })

/** Decodes as the client does, so that the memory counted is what an agent holds. */
function decode(name: string, bytes: Uint8Array): MeshChange {
  const change = ADDRESS.decode(name, bytes)
  if (!change.ok) throw new Error(change.error.reason)
  return change.value
}

function heapBytes(): number {
  if (globalThis.gc === undefined) throw new Error('run with node --expose-gc')
  globalThis.gc()
  globalThis.gc()
  const { heapUsed, arrayBuffers, external } = process.memoryUsage()
  return heapUsed + arrayBuffers + external
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

function nanosecondsPer(count: number, run: (index: number) => unknown): number {
  const began = performance.now()
  let found = 0
  for (let index = 0; index < count; index += 1) if (run(index) !== undefined) found += 1
  if (found === 0) throw new Error('the looked-up thing was never found')
  return ((performance.now() - began) * 1e6) / count
}

const before = heapBytes()
const state = new MeshState()
const loadBegan = performance.now()
for (let index = 0; index < SERVICES; index += 1)
  state.apply([
    decode(keyOf(index), ADDRESS.encode({ kind: 'service', service: makeService(index) })),
  ])
for (let index = 0; index < WORKLOADS; index += 1)
  state.apply([decode(makeWorkload(index, 'healthy').uid, workloadBytes(index))])
const loadMs = performance.now() - loadBegan
const memoryMb = (heapBytes() - before) / 1e6

const times: number[] = []
for (let round = 0; round < CHANGES; round += 1) {
  const index = (round * 7919) % WORKLOADS
  const { uid } = makeWorkload(index, 'healthy')
  const bytes = workloadBytes(index, round % 2 === 0 ? 'unhealthy' : 'healthy')
  const began = performance.now()
  state.apply([decode(uid, bytes)])
  times.push(performance.now() - began)
}
times.sort((left, right) => left - right)

const addresses = Array.from({ length: WORKLOADS }, (_, index) => podIp(index))
const vips = Array.from({ length: SERVICES }, (_, index) => vip(index))
const services = vips.map(
  (address) => state.findService({ address, port: 80 }, 'namespace-0')?.service,
)
const [requested = ip('10.0.0.1')] = vips
const result = {
  workloads: state.size.workloads,
  services: state.size.services,
  memoryMb: Number(memoryMb.toFixed(2)),
  loadMs: Math.round(loadMs),
  changeMedianMs: Number(percentile(times, 0.5).toFixed(4)),
  changeP99Ms: Number(percentile(times, 0.99).toFixed(4)),
  changeMaxMs: Number(percentile(times, 1).toFixed(4)),
  findWorkloadNs: Math.round(
    nanosecondsPer(LOOKUPS, (index) =>
      state.findWorkload(addresses[index % WORKLOADS] ?? requested),
    ),
  ),
  findServiceNs: Math.round(
    nanosecondsPer(LOOKUPS, (index) =>
      state.findService({ address: vips[index % SERVICES] ?? requested, port: 80 }, 'namespace-1'),
    ),
  ),
  pickEndpointNs: Math.round(
    nanosecondsPer(LOOKUPS, (index) => {
      const service = services[index % SERVICES]
      if (service === undefined) return undefined
      return pickEndpoint(state.endpoints(service.key), {
        service,
        servicePort: 80,
        client: undefined,
        clientAddress: requested,
        requested,
        random: Math.random,
      })
    }),
  ),
}
console.log(`mesh state of ${result.workloads} workloads and ${result.services} services`)
console.log(`  memory                 ${result.memoryMb} MB`)
console.log(`  load (decode + apply)  ${result.loadMs} ms`)
console.log(
  `  one change             median ${result.changeMedianMs} ms, p99 ${result.changeP99Ms} ms, max ${result.changeMaxMs} ms`,
)
console.log(`  find workload by IP    ${result.findWorkloadNs} ns`)
console.log(`  find service by VIP    ${result.findServiceNs} ns`)
console.log(`  pick of 10 endpoints   ${result.pickEndpointNs} ns`)
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(result, null, 2)}\n`)
