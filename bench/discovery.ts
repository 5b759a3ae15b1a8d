// SPDX-License-Identifier: Apache-2.0
// What the controller's road costs: translating 10,000 pods and 1,000 services, one pod's event, a rolling restart's
// worth of events, what the translator holds, and the time until an agent has the whole mesh. Run by itself: node bench/discovery.ts [--json FILE]

import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { fromBinary } from '@bufbuild/protobuf'
import { addressResources } from '../controller/serve/mesh-resources.ts'
import type { InputKind, InputObjects } from '../controller/core/input.ts'
import { followMesh } from '../controller/core/mesh-changes.ts'
import type { MeshSecret } from '../controller/core/config.ts'
import { translate } from '../controller/core/translator.ts'
import { ObjectSources } from '../controller/sources/object-sources.ts'
import { Graph } from '../mesh/collections/index.ts'
import { MeshState } from '../mesh/model/mesh-state.ts'
import type { MeshChange } from '../mesh/model/types.ts'
import { DeltaDiscoveryResponseSchema } from '../mesh/proto/gen/discovery_pb.js'
import { meshSubscription } from '../mesh/xds/mesh-subscription.ts'
import { ResourceStore } from '../mesh/xds/resource-store.ts'
import { ResponseEncoder } from '../mesh/xds/response.ts'
import { ADDRESS, type AddressResource } from '../mesh/xds/types/address.ts'

const PODS = 10_000
const SERVICES = 1_000
const NAMESPACES = 50
const EVENTS = 2_000
const ORIGIN = { cluster: 'Kubernetes', clusterDomain: 'cluster.local' }

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const { values } = parseArgs({ options: { json: { type: 'string' } } })

function pod(index: number, isReady: boolean): InputObjects['Pod'] {
  const service = index % SERVICES
  return {
    metadata: {
      name: `service-${service}-6b7f9c4d58-${index}`,
      namespace: `namespace-${service % NAMESPACES}`,
      uid: `uid-${index}`,
      labels: { app: `service-${service}`, 'pod-template-hash': '6b7f9c4d58' },
    },
    spec: {
      nodeName: `node-${index % 100}`,
      serviceAccountName: `service-${service}`,
      containers: [{ name: 'main', ports: [{ name: 'http', containerPort: 8080 }] }],
    },
    status: {
      phase: 'Running',
      podIPs: [{ ip: `10.244.${index >> 8}.${index & 255}` }],
      conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }],
    },
  }
}

function service(index: number): InputObjects['Service'] {
  return {
    metadata: { name: `service-${index}`, namespace: `namespace-${index % NAMESPACES}` },
    spec: {
      clusterIPs: [`10.96.${index >> 8}.${index & 255}`],
      selector: { app: `service-${index}` },
      ports: [{ name: 'http', port: 80, targetPort: 'http' }],
    },
  }
}

function time(run: () => void): number {
  const began = performance.now()
  run()
  return performance.now() - began
}

function heapBytes(): number {
  collectGarbage()
  return process.memoryUsage().heapUsed
}

let given: readonly MeshChange[] = []
const heapBefore = heapBytes()
const graph = new Graph({
  onFault: ({ error }) => {
    throw error
  },
})
const sources = new ObjectSources(graph, {
  onProblems: (problems) => {
    throw new Error(JSON.stringify(problems))
  },
})
const config = {
  trustDomain: 'cluster.local',
  trustDomainAliases: [],
  rootNamespace: 'istio-system',
  network: '',
}
const secrets = graph.source<MeshSecret, string>('secrets')
secrets.complete()
followMesh(graph, translate(graph, sources.collections, config, secrets), (changes) => {
  given = changes
})
function put<K extends InputKind>(kind: K, object: InputObjects[K]): void {
  sources.put(kind, sources.read(kind, object, ORIGIN))
}
const readMs = time(() => {
  for (let index = 0; index < NAMESPACES; index += 1)
    put('Namespace', { metadata: { name: `namespace-${index}` } })
  for (let index = 0; index < SERVICES; index += 1) put('Service', service(index))
  for (let index = 0; index < PODS; index += 1) put('Pod', pod(index, true))
})
const translateMs = time(() => graph.batch(() => sources.complete()))
const heapPerPod = (heapBytes() - heapBefore) / PODS
const changeCount = given.length
const store = new ResourceStore()
const offer = (resource: AddressResource): unknown =>
  store.set({
    name: ADDRESS.name(resource),
    aliases: ADDRESS.aliases(resource),
    payload: ADDRESS.encode(resource),
  })
const encodeMs = time(() => {
  for (const resource of addressResources(given).upserts) offer(resource)
})
const resources = store.all()
let message: Uint8Array = new Uint8Array()
const encoder = new ResponseEncoder(ADDRESS.typeUrl)
const responseMs = time(() => {
  message = encoder.encode({ resources, removed: [] }).bytes
})
const anotherMs = time(() => void encoder.encode({ resources: [...resources], removed: [] }))
const state = new MeshState()
const subscription = meshSubscription((changes) => state.apply(changes))
const receiveMs = time(() => {
  const { problems } = subscription.handle(fromBinary(DeltaDiscoveryResponseSchema, message))
  if (problems.length > 0) throw new Error(JSON.stringify(problems[0]))
})
const eventsMs = time(() => {
  for (let round = 0; round < EVENTS; round += 1) {
    put('Pod', pod((round * 7919) % PODS, false))
    if (given.length !== 1) throw new Error('an event must change one workload')
    for (const resource of addressResources(given).upserts) offer(resource)
  }
})
const result = {
  resources: changeCount,
  readMs: Math.round(readMs),
  translateMs: Math.round(translateMs),
  encodeMs: Math.round(encodeMs),
  responseMs: Math.round(responseMs),
  anotherResponseMs: Math.round(anotherMs),
  responseMb: Number((message.length / 1e6).toFixed(2)),
  receiveMs: Math.round(receiveMs),
  heapPerPodBytes: Math.round(heapPerPod),
  eventMs: Number((eventsMs / EVENTS).toFixed(4)),
}
console.log(`discovery of ${state.size.workloads} workloads and ${state.size.services} services`)
console.log(`  read objects           ${result.readMs} ms`)
console.log(`  translate all          ${result.translateMs} ms`)
console.log(`  heap of facts and mesh ${result.heapPerPodBytes} bytes a pod`)
console.log(`  encode resources       ${result.encodeMs} ms`)
console.log(`  write full response    ${result.responseMs} ms, ${result.responseMb} MB`)
console.log(`  for another agent      ${result.anotherResponseMs} ms`)
console.log(`  agent decodes, applies ${result.receiveMs} ms`)
console.log(`  one pod event          ${result.eventMs} ms`)
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(result, null, 2)}\n`)
