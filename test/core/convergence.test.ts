// SPDX-License-Identifier: Apache-2.0
// However the cluster's events arrive, the mesh ends up the same; and no object, however odd, stops the others.

import fc from 'fast-check'
import t from 'tap'
import type { InputKind, InputObjects } from '../../controller/core/input.ts'
import { kubePod, kubeService, kubeSlice, snapshot, startTranslator } from './objects.ts'

type Event =
  | { readonly kind: InputKind; readonly name: string; readonly object: unknown }
  | { readonly kind: InputKind; readonly name: string; readonly object: undefined }

const pick = <T>(...values: readonly T[]) => fc.constantFrom(...values)
const name = (prefix: string, count: number) =>
  fc.integer({ min: 0, max: count - 1 }).map((index) => `${prefix}-${index}`)

const podEvent = fc
  .record({
    name: name('pod', 4),
    app: pick('a', 'b'),
    uid: pick('1', '2'),
    node: pick('node-0', 'node-1'),
    phase: pick('Running', 'Running', 'Failed'),
    address: pick('10.0.0.1', '10.0.0.2', ''),
    port: pick(8080, 9090),
  })
  .map(({ name, app, uid, node, phase, address, port }) => ({
    kind: 'Pod' as const,
    name,
    object: kubePod(name, {
      uid,
      labels: { app },
      spec: {
        nodeName: node,
        containers: [{ name: 'main', ports: [{ name: 'http', containerPort: port }] }],
      },
      status: { phase, podIPs: address === '' ? [] : [{ ip: address }] },
    }),
  }))

const serviceEvent = fc
  .record({
    name: name('service', 3),
    app: pick('a', 'b', undefined),
    target: pick<number | string>('http', 8080),
    local: fc.boolean(),
  })
  .map(({ name, app, target, local }) => {
    const object = kubeService(name, {
      ports: [{ name: 'http', port: 80, targetPort: target }],
      ...(local ? { internalTrafficPolicy: 'Local' } : {}),
      ...(app === undefined ? {} : { selector: { app } }),
    })
    if (app === undefined) delete object.spec?.selector
    return { kind: 'Service' as const, name, object }
  })

const sliceEvent = fc
  .record({
    name: name('slice', 3),
    service: name('service', 3),
    endpoints: fc.array(
      fc.oneof(
        fc.record({ pod: name('pod', 4), uid: pick('1', '2') }),
        fc.record({ address: pick('192.0.2.1', '192.0.2.2', '10.0.0.2') }),
      ),
      { maxLength: 3 },
    ),
    port: pick(1000, 2000),
  })
  .map(({ name, service, endpoints, port }) => ({
    kind: 'EndpointSlice' as const,
    name,
    object: kubeSlice(
      name,
      service,
      endpoints.map((each) =>
        'pod' in each
          ? {
              addresses: ['10.0.0.1'],
              targetRef: { kind: 'Pod', name: each.pod, uid: each.uid },
            }
          : { addresses: [each.address], nodeName: 'node-0' },
      ),
      [{ name: 'http', port }],
    ),
  }))

const nodeEvent = fc
  .record({ name: name('node', 2), zone: pick('z1', 'z2') })
  .map(({ name, zone }) => ({
    kind: 'Node' as const,
    name,
    object: { metadata: { name, labels: { 'topology.kubernetes.io/zone': zone } } },
  }))

const namespaceEvent = pick('PreferClose', 'Any').map((wish) => ({
  kind: 'Namespace' as const,
  name: 'shop',
  object: {
    metadata: { name: 'shop', annotations: { 'networking.istio.io/traffic-distribution': wish } },
  },
}))

const upsert = fc.oneof(podEvent, podEvent, serviceEvent, sliceEvent, nodeEvent, namespaceEvent)
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 4, arbitrary: upsert },
  { weight: 1, arbitrary: upsert.map(({ kind, name }) => ({ kind, name, object: undefined })) },
)

function feed(run: ReturnType<typeof startTranslator>, { kind, name, object }: Event): void {
  if (object === undefined) run.translator.delete(kind, 'shop', name)
  else run.translator.upsert(kind, object as InputObjects[InputKind])
}

void t.test(
  'events in any order, one by one, end where the same cluster listed at once ends',
  async (t) => {
    let compared = 0
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), fc.nat(60), (events, listedAt) => {
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

void t.test('no object, whatever is in it, throws or stops the next one', async (t) => {
  const kinds: fc.Arbitrary<InputKind> = pick(
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
