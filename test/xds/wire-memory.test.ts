// SPDX-License-Identifier: Apache-2.0
// What a mesh state remembers, written as plain data and read again.

import t from 'tap'
import type { FormerMemory } from '../../mesh/model/former-addresses.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import { decodeMemory, encodeMemory, type WireMemory } from '../../mesh/xds/wire-memory.ts'
import { sampleService, sampleWorkload } from '../model/samples.ts'

/** What is remembered of a pod, its Service and another that it was in, a second after they went. */
function memory(): FormerMemory {
  let nowMs = 0
  const state = new MeshState({ now: () => nowMs })
  const service = sampleService('catalog', { nodePorts: [{ nodePort: 30_080, servicePort: 80 }] })
  const other = sampleService('other', { addresses: [] })
  const services = new Map([
    [service.key, []],
    [other.key, []],
  ])
  const workload = sampleWorkload('catalog', { services })
  state.apply([
    { kind: 'service', service },
    { kind: 'service', service: other },
    { kind: 'workload', workload },
    { kind: 'workloadRemoved', uid: workload.uid },
    { kind: 'serviceRemoved', key: service.key },
  ])
  nowMs += 1_000
  return state.formerly
}

/** As another program reads it: of text. */
const sent = (): WireMemory => JSON.parse(JSON.stringify(encodeMemory(memory()))) as WireMemory

void t.test('what is read is what was written, with the time that it is gone', async (t) => {
  const { workloads, services, nodePorts, endpoints } = memory()
  t.match(
    [workloads, services, nodePorts, endpoints].map((holders) =>
      holders.map(([key, , goneForMs]) => [key, goneForMs]),
    ),
    [
      [['10.244.0.1', 1_000]],
      [['10.96.0.50', 1_000]],
      [[30_080, 1_000]],
      [
        ['shop/catalog.shop.svc.cluster.local', 1_000],
        ['shop/other.shop.svc.cluster.local', 1_000],
      ],
    ],
  )
  t.strictSame(decodeMemory(sent()), { ok: true, value: memory() })
})

void t.test('what cannot be read is named', async (t) => {
  const wire = sent()
  const workloads = wire.workloads.map((each) => ({ ...each, resource: '/w==' }))
  t.match(decodeMemory({ ...wire, workloads }), {
    ok: false,
    error: /^Cannot use resource Kubernetes\/\/Pod\/shop\/catalog: resource: is not an Address/,
  })
})
