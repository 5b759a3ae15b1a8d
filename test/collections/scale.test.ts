// SPDX-License-Identifier: Apache-2.0
// One change costs what it touches, however much else there is, and what is gone leaves nothing behind. Recomputations
// are counted, not timed.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { Graph } from '../../mesh/collections/index.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Pods that services select by app, of which each node has some: three layers, as the controller has them. */
function cluster() {
  const graph = new Graph({
    onFault: ({ error }) => {
      throw error
    },
  })
  let computed = 0
  const nodes = graph.source<string, { readonly zone: string }>('nodes')
  const services = graph.source<string, { readonly app: string; readonly port: number }>('services')
  const pods = graph.source<string, { readonly app: string; readonly node: string }>('pods')
  const servicesByApp = services.index((service) => [service.app])
  const workloads = graph.derive('workloads', pods, (fetch, pod, name) => {
    computed += 1
    const ports = fetch(servicesByApp, pod.app).map(({ port }) => port)
    return [[`uid ${name}`, { ...pod, zone: fetch(nodes, pod.node)?.zone ?? '', ports }]]
  })
  const workloadsByNode = workloads.index((workload) => [workload.node])
  const loads = graph.derive('loads', nodes, (fetch, { zone }, name) => {
    computed += 1
    return [[name, { zone, pods: fetch(workloadsByNode, name).length }]]
  })
  const readables = [nodes, services, pods, servicesByApp, workloads, workloadsByNode, loads]
  const fill = (size: number): void =>
    graph.batch(() => {
      for (let index = 0; index < size / 10; index += 1) {
        nodes.set(`node-${index}`, { zone: `zone-${index % 3}` })
        services.set(`service-${index}`, { app: `app-${index}`, port: index })
      }
      for (let index = 0; index < size; index += 1) pods.set(`pod-${index}`, podOf(index, size))
      for (const source of [nodes, services, pods]) source.complete()
    })
  const count = (change: () => void): number => {
    computed = 0
    change()
    return computed
  }
  return { graph, nodes, services, pods, workloads, loads, readables, fill, count }
}

const podOf = (index: number, size: number) => ({
  app: `app-${index % (size / 10)}`,
  node: `node-${(index * 7) % (size / 10)}`,
})

void t.test(
  'one change computes the same few inputs in a small and in a large cluster',
  async (t) => {
    const costs = [100, 10_000].map((size) => {
      const { nodes, services, pods, fill, count } = cluster()
      const filled = count(() => fill(size))
      t.equal(filled, size + size / 10, 'once each at the start')
      const pod = podOf(5, size)
      return {
        podMoves: count(() => pods.set('pod-5', { ...pod, node: 'node-1' })),
        podUnchanged: count(() => pods.set('pod-5', { ...pod, node: 'node-1' })),
        podGoes: count(() => pods.delete('pod-5')),
        podComes: count(() => pods.set('pod-5', pod)),
        serviceChanges: count(() => services.set('service-3', { app: 'app-3', port: 99 })),
        serviceOfNobody: count(() => services.set('other', { app: 'nobody', port: 1 })),
        nodeMoves: count(() => nodes.set('node-2', { zone: 'zone-elsewhere' })),
      }
    })
    t.strictSame(costs[0], costs[1])
    t.strictSame(costs[0], {
      // The pod, the node it left, and the node it came to.
      podMoves: 3,
      podUnchanged: 0,
      podGoes: 1,
      podComes: 2,
      // The ten pods of that app, and the node that all of them are on.
      serviceChanges: 11,
      serviceOfNobody: 0,
      // The ten pods there, and the node.
      nodeMoves: 11,
    })
  },
)

void t.test('after any amount of coming and going nothing is left of what is gone', async (t) => {
  const { graph, nodes, services, pods, workloads, loads, readables, fill } = cluster()
  fill(100)
  const readers = () => readables.map((each) => each.readers.size)
  const before = readers()
  const churn = (round: number): void => {
    const named = (index: number): string => `round-${round}-${index}`
    for (let index = 0; index < 200; index += 1) {
      nodes.set(named(index), { zone: named(index) })
      services.set(named(index), { app: named(index), port: index })
      pods.set(named(index), { app: named(index), node: named(index) })
      pods.set(named(index), { app: named(index), node: named(index + 1) })
    }
    for (let index = 0; index < 200; index += 1) {
      pods.delete(named(index))
      services.delete(named(index))
      nodes.delete(named(index))
    }
  }
  // The first rounds grow what is not freed again: compiled code, tables.
  for (let round = 0; round < 20; round += 1) churn(round)
  collectGarbage()
  const heapBefore = process.memoryUsage().heapUsed
  for (let round = 20; round < 120; round += 1) churn(round)
  collectGarbage()
  const grownBy = process.memoryUsage().heapUsed - heapBefore
  t.strictSame(readers(), before)
  t.strictSame([workloads.size, loads.size], [100, 10])
  // 20,000 pods came and went: one forgotten entry of each would be over 1 MB.
  t.ok(grownBy < 300_000, `the heap has grown by ${grownBy} bytes`)
  graph.batch(() => {
    for (const source of [nodes, services, pods])
      for (const key of source.keys()) source.delete(key)
  })
  t.strictSame(
    readers(),
    readables.map(() => 0),
  )
  t.strictSame([workloads.size, loads.size], [0, 0])
})
