// SPDX-License-Identifier: Apache-2.0
// What a pod costs the controller in memory. Runs the controller of a source tree as it is run in a cluster, over an API
// server with 10,000 typical Pods (4.9 KB of JSON, managedFields among it), and again over one without; the difference of
// what is left after a full garbage collection, divided by the pods, is the figure. It counts everything: watches, facts,
// model, encoded resources, the certificate authority's index. The inspector is asked, so any tree can be measured.
// With --policies it measures what an AuthorizationPolicy of ten rules costs beside them, too.
// Run by itself: node bench/controller-heap.ts [--tree DIRECTORY] [--pods N] [--policies N]

import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { ControllerProcess, type Memory } from './cluster/controller-process.ts'
import { ListingApiServer, typicalLists } from './cluster/listing-api-server.ts'
import { TypicalObjects } from './cluster/typical-objects.ts'

const { values } = parseArgs({
  options: {
    tree: { type: 'string', default: join(import.meta.dirname, '..') },
    pods: { type: 'string', default: '10000' },
    policies: { type: 'string', default: '0' },
  },
})

/** Translating and encoding what was listed; longer than any machine of ours needs. */
const SETTLE_MS = 3_000

function cluster(pods: number, policies = 0): TypicalObjects {
  return new TypicalObjects({ pods, policies, services: 1_000, namespaces: 50, nodes: 100 })
}

/** The memory of a controller that has taken in a cluster of so many pods. */
async function memoryOf(tree: string, objects: TypicalObjects): Promise<Memory> {
  const api = new ListingApiServer({ lists: typicalLists(objects) })
  const apiServerPort = await api.listen()
  try {
    await using controller = new ControllerProcess({ tree, apiServerPort })
    await controller.started()
    await api.watched
    await delay(SETTLE_MS)
    let memory = await controller.memory()
    // Until two looks agree: the first lists may still be on their way.
    for (let before = Number.NaN; Math.abs(memory.heapUsed - before) > 20_000; ) {
      before = memory.heapUsed
      await delay(SETTLE_MS)
      memory = await controller.memory()
    }
    return memory
  } finally {
    api.close()
  }
}

const pods = Number(values.pods)
const sample = JSON.stringify(cluster(2).pod(1)).length
const empty = await memoryOf(values.tree, cluster(0))
const full = await memoryOf(values.tree, cluster(pods))
const perPod = (of: (memory: Memory) => number): number => Math.round((of(full) - of(empty)) / pods)
console.log(
  JSON.stringify({
    tree: values.tree,
    pods,
    podJsonBytes: sample,
    emptyHeapMb: Number((empty.heapUsed / 1e6).toFixed(1)),
    fullHeapMb: Number((full.heapUsed / 1e6).toFixed(1)),
    heapBytesPerPod: perPod(({ heapUsed }) => heapUsed),
    outsideHeapBytesPerPod: perPod(({ external }) => external),
  }),
)
const policies = Number(values.policies)
if (policies > 0) {
  const ruled = await memoryOf(values.tree, cluster(pods, policies))
  const each = Math.round((ruled.heapUsed - full.heapUsed) / policies)
  console.log(`a policy of ten rules: ${each} bytes of heap, with ${policies} of them`)
}
