// SPDX-License-Identifier: Apache-2.0
// However the cluster's events arrive, the mesh ends up the same; and no object, however odd, stops the others.

import fc from 'fast-check'
import assert from 'node:assert/strict'
import t from 'tap'
import { reachOf } from '../../agent/proxy/decision/outbound.ts'
import type { InputKind, InputObjects } from '../../controller/core/input.ts'
import { pickEndpoint } from '../../mesh/model/load-balance.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { SocketAddress, Workload } from '../../mesh/model/types.ts'
import { ip, sampleWorkload } from '../model/samples.ts'
import { kubeProxy } from './kube-proxy.ts'
import { kubePod, kubeService, snapshot, startTranslator } from './objects.ts'
import {
  CLUSTER_IPS,
  CLUSTER_IPS_6,
  clusterEvent,
  EXTERNAL_ADDRESSES,
  feed,
  NODE_ADDRESSES,
  NODE_PORTS,
  OUTSIDE_ADDRESSES,
  POD_ADDRESSES,
  remaining,
} from './random-cluster.ts'

void t.test(
  'events in any order, one by one, end where the same cluster listed at once ends',
  async (t) => {
    let compared = 0
    fc.assert(
      fc.property(fc.array(clusterEvent, { maxLength: 60 }), fc.nat(60), (events, listedAt) => {
        const live = startTranslator()
        for (const [index, each] of events.entries()) {
          if (index === listedAt) live.translator.complete()
          feed(live, each)
        }
        live.translator.complete()

        const last = new Map(events.map((each) => [`${each.kind} ${each.name}`, each]))
        const listed = startTranslator()
        // Another order than they came in.
        for (const each of [...last.values()].reverse()) feed(listed, each)
        listed.translator.complete()
        compared += 1
        t.strictSame(snapshot(live.state), snapshot(listed.state))
        t.strictSame(live.problems, [])
      }),
      { numRuns: 1000 },
    )
    t.equal(compared >= 1000, true)
  },
)

void t.test('connections lead where kube-proxy would lead them', async (t) => {
  const addresses = [
    ...[...CLUSTER_IPS, ...CLUSTER_IPS_6, ...EXTERNAL_ADDRESSES],
    ...[...NODE_ADDRESSES, ...POD_ADDRESSES, ...OUTSIDE_ADDRESSES],
  ]
  const places = addresses.flatMap((address) =>
    [80, 22, ...NODE_PORTS].map((port) => ({ address: ip(address), port })),
  )
  const seen = { passed: 0, refused: 0, served: 0 }
  fc.assert(
    fc.property(fc.array(clusterEvent, { minLength: 20, maxLength: 60 }), (all) => {
      // Without wishes for nearness, which kube-proxy follows by the hints in slices.
      const events = all.filter(({ kind }) => kind !== 'Namespace')
      const run = startTranslator()
      for (const each of events) feed(run, each)
      run.translator.complete()
      const objects = {
        pods: remaining(events, 'Pod'),
        services: remaining(events, 'Service'),
        slices: remaining(events, 'EndpointSlice'),
        nodes: remaining(events, 'Node'),
      }
      const client = sampleWorkload('client', { node: 'node-0' })
      for (const place of places) {
        const expected = kubeProxy(objects, 'node-0', place.address, place.port)
        const found = reachable(run.state, client, place)
        seen[found === undefined ? 'passed' : found.length === 0 ? 'refused' : 'served'] += 1
        assert.deepEqual(found, expected, `${place.address} ${place.port}`)
      }
    }),
    { numRuns: 400 },
  )
  t.ok(Math.min(seen.passed, seen.refused, seen.served) > 200, JSON.stringify(seen))
})

/** All that a pod of the mesh may get there; undefined when it is no Service's. */
function reachable(
  state: MeshState,
  client: Workload,
  place: SocketAddress,
): readonly string[] | undefined {
  const match = state.findService(place, 'shop')
  if (match === undefined) return undefined
  const found = new Set<string>()
  let seed = 1
  // So many that one of half a dozen endpoints is missed once in 10^15.
  for (let pick = 0; pick < 200; pick += 1) {
    const endpoint = pickEndpoint(state.endpoints(match.service.key), {
      service: match.service,
      servicePort: match.servicePort,
      client,
      clientAddress: ip('10.0.0.9'),
      requested: place.address,
      ...reachOf(match, client),
      random: () => {
        seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
        return seed / 2 ** 32
      },
    })
    if (endpoint !== undefined) found.add(`${endpoint.address} ${endpoint.port}`)
  }
  return [...found].sort()
}

void t.test('no object, whatever is in it, throws or stops the next one', async (t) => {
  const kinds: fc.Arbitrary<InputKind> = fc.constantFrom(
    'Pod',
    'Service',
    'EndpointSlice',
    'Node',
    'Namespace',
  )
  const odd = fc.oneof(
    fc.jsonValue(),
    // Right in shape down to some field, then odd.
    fc.record({
      metadata: fc.oneof(
        fc.record({
          name: fc.oneof(fc.constant('x'), fc.jsonValue()),
          namespace: fc.constant('shop'),
          labels: fc.oneof(fc.constant({ 'kubernetes.io/service-name': 'x' }), fc.jsonValue()),
          ownerReferences: fc.jsonValue(),
          annotations: fc.jsonValue(),
        }),
        fc.jsonValue(),
      ),
      spec: fc.oneof(
        fc.record({
          containers: fc.oneof(fc.jsonValue(), fc.array(fc.record({ ports: fc.jsonValue() }))),
          ports: fc.oneof(
            fc.jsonValue(),
            fc.array(fc.record({ port: fc.jsonValue(), targetPort: fc.jsonValue() })),
          ),
          clusterIPs: fc.jsonValue(),
          selector: fc.jsonValue(),
          ipFamilies: fc.jsonValue(),
          nodeName: fc.jsonValue(),
        }),
        fc.jsonValue(),
      ),
      status: fc.oneof(
        fc.constant({ podIPs: [{ ip: '10.0.0.1' }] }),
        fc.record({ podIPs: fc.jsonValue(), conditions: fc.jsonValue() }),
        fc.jsonValue(),
      ),
      endpoints: fc.oneof(
        fc.jsonValue(),
        fc.array(fc.record({ addresses: fc.jsonValue(), targetRef: fc.jsonValue() })),
      ),
      ports: fc.jsonValue(),
    }),
  )
  const run = startTranslator()
  run.translator.complete()
  fc.assert(
    fc.property(kinds, odd, (kind, object) => {
      run.translator.upsert(kind, object as InputObjects[InputKind])
    }),
    { numRuns: 2000 },
  )
  t.ok(run.problems.length > 0)
  for (const problem of run.problems)
    if (problem.reason === '') t.fail(`no reason: ${JSON.stringify(problem)}`)
  t.strictSame(
    [...new Set(run.problems.filter(({ field }) => field === '').map(({ reason }) => reason))],
    [],
    'every flaw is named by its field',
  )
  run.translator.upsert('Service', kubeService('catalog'))
  run.translator.upsert('Pod', kubePod('good'))
  t.equal(run.pod('good')?.status, 'healthy')
  t.ok(run.service('catalog'))
})
