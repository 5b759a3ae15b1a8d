// SPDX-License-Identifier: Apache-2.0
// Facts of several clusters lie side by side, and one object may be several services.

import fc from 'fast-check'
import assert from 'node:assert/strict'
import t from 'tap'
import type { InputFacts, InputKind, InputObjects } from '../../controller/core/input.ts'
import { type ObjectKey, objectKey, podKey } from '../../controller/core/origin.ts'
import { readPod } from '../../controller/core/pod.ts'
import { readService } from '../../controller/core/service.ts'
import { readEndpointSlice } from '../../controller/core/slice.ts'
import { translate } from '../../controller/core/translator.ts'
import { SharedMaps } from '../../controller/reading/sharing.ts'
import { ObjectSources } from '../../controller/sources/object-sources.ts'
import { Graph } from '../../mesh/collections/index.ts'
import {
  CONFIG,
  endpointOf,
  kubePod,
  kubeService,
  kubeSlice,
  ORIGIN,
  testSecrets,
} from './objects.ts'

const throwing = {
  onFault: ({ error }: { readonly error: unknown }) => {
    throw error
  },
}

void t.test('objects of one name in two clusters are two, and know nothing of each other', (t) => {
  const graph = new Graph(throwing)
  const sources = new ObjectSources(graph, { onProblems: (found) => assert.deepEqual(found, []) })
  const { workloads, services } = translate(graph, sources.collections, CONFIG, testSecrets(graph))
  const east = { cluster: 'east', clusterDomain: 'cluster.local' }
  const west = { cluster: 'west', clusterDomain: 'west.local' }
  const put = <K extends InputKind>(kind: K, object: InputObjects[K], origin: typeof east): void =>
    sources.put(kind, sources.read(kind, object, origin))
  const manual = kubeService('manual')
  delete manual.spec?.selector
  graph.batch(() => {
    for (const origin of [east, west]) put('Pod', kubePod('catalog-1'), origin)
    put('Service', kubeService('catalog'), west)
    put(
      'EndpointSlice',
      kubeSlice('catalog-1', 'catalog', [endpointOf(kubePod('catalog-1'))]),
      west,
    )
    put('Service', manual, west)
    // West's slice gives an address that both clusters have.
    put('EndpointSlice', kubeSlice('manual-1', 'manual', [{ addresses: ['10.244.0.1'] }]), west)
    sources.complete()
  })
  const memberships = workloads.flatMap((each) =>
    [...each.values()].map(({ uid, services: of }) => [uid, [...of.keys()].sort()]),
  )
  t.strictSame(memberships.sort(), [
    ['east//Pod/shop/catalog-1', []],
    [
      'west//Pod/shop/catalog-1',
      ['shop/catalog.shop.svc.west.local', 'shop/manual.shop.svc.west.local'],
    ],
  ])
  t.equal(services.size, 2)
  sources.remove('Pod', podKey('west', 'shop', 'catalog-1'))
  t.strictSame(
    workloads.flatMap((each) => [...each.keys()]),
    ['east//Pod/shop/catalog-1', 'west/discovery.k8s.io/EndpointSlice/shop/manual-1/10.244.0.1'],
  )
  t.end()
})

void t.test('a Service of several host names is a service of the mesh for each', (t) => {
  const graph = new Graph(throwing)
  const source = <K extends InputKind>(kind: K) => graph.source<ObjectKey, InputFacts[K]>(kind)
  const objects = {
    Pod: source('Pod'),
    Service: source('Service'),
    EndpointSlice: source('EndpointSlice'),
    Node: source('Node'),
    Namespace: source('Namespace'),
    HTTPRoute: source('HTTPRoute'),
    GRPCRoute: source('GRPCRoute'),
    TCPRoute: source('TCPRoute'),
    TLSRoute: source('TLSRoute'),
    ReferenceGrant: source('ReferenceGrant'),
    BackendTLSPolicy: source('BackendTLSPolicy'),
    ConfigMap: source('ConfigMap'),
    AuthorizationPolicy: source('AuthorizationPolicy'),
    PeerAuthentication: source('PeerAuthentication'),
    NetworkPolicy: source('NetworkPolicy'),
    GatewayClass: source('GatewayClass'),
    Gateway: source('Gateway'),
  }
  const { services, workloads } = translate(graph, objects, CONFIG, testSecrets(graph))
  const pod = readPod(kubePod('catalog-1'), ORIGIN).facts
  const service = readService(kubeService('catalog'), ORIGIN).facts
  const listed = kubeSlice('catalog-1', 'catalog', [endpointOf(kubePod('catalog-1'))])
  const slice = readEndpointSlice(listed, ORIGIN).facts
  if (pod === undefined || service === undefined || slice === undefined)
    throw new Error('they are read')
  const key = objectKey(ORIGIN.cluster, 'shop', 'catalog')
  graph.batch(() => {
    objects.Pod.set(key, pod)
    objects.EndpointSlice.set(key, slice)
    objects.Service.set(key, { ...service, hosts: ['catalog.example', 'www.example'] })
    for (const each of Object.values(objects)) each.complete()
  })
  t.strictSame([...services.keys()], ['shop/catalog.example', 'shop/www.example'])
  t.strictSame(
    [...services.values()].map(({ hostname }) => hostname),
    ['catalog.example', 'www.example'],
  )
  const [workload] = workloads.flatMap((each) => [...each.values()])
  t.strictSame([...(workload?.services.keys() ?? [])], ['shop/catalog.example', 'shop/www.example'])
  objects.Service.set(key, { ...service, hosts: ['www.example'] })
  t.strictSame([...services.keys()], ['shop/www.example'])
  t.end()
})

void t.test('maps that share memory are equal, whatever texts are in them', (t) => {
  const text = fc.string({ unit: fc.constantFrom('1', ':', 'a', '\n'), maxLength: 3 })
  const map = fc.array(fc.tuple(text, text), { maxLength: 3 }).map((each) => new Map(each))
  let shared = 0
  fc.assert(
    fc.property(fc.array(map, { maxLength: 20 }), (maps) => {
      const pool = new SharedMaps<string, string>((value) => value)
      const seen = new Set<ReadonlyMap<string, string>>()
      for (const each of maps) {
        const given = pool.share(each)
        assert.deepEqual([...given], [...each])
        if (given !== each) shared += 1
        seen.add(given)
      }
      assert.equal(seen.size, new Set(maps.map((each) => JSON.stringify([...each]))).size)
    }),
  )
  t.ok(shared > 50)
  t.end()
})
