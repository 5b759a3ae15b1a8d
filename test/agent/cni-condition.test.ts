// SPDX-License-Identifier: Apache-2.0
// An agent says on its pod whether new pods of its node are enrolled at their start, and if not, why.

import { pino } from 'pino'
import t, { type Test } from 'tap'
import { CniCondition } from '../../agent/cni-condition.ts'
import { chainProblem, createKubeApi, type Pod, PODS } from '../../mesh/kube/index.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { until } from '../support/until.ts'

const NAMESPACE = 'ambit-system'
const NAME = 'ambit-agent-x7k2p'
type Conditions = NonNullable<NonNullable<Pod['status']>['conditions']>
const READY: Conditions[number] = { type: 'Ready', status: 'True' }

async function setUp(t: Test): Promise<{
  readonly kube: FaultyApi
  readonly logged: string[]
  readonly condition: CniCondition
  conditions(): Promise<Conditions>
  writes(): number
}> {
  const kube = new FaultyApi()
  await kube.start()
  t.teardown(() => kube.stop())
  const api = createKubeApi(kube.access())
  kube.put(PODS, {
    metadata: { namespace: NAMESPACE, name: NAME },
    spec: { containers: [{ name: 'agent', image: 'host' }] },
    status: { conditions: [READY] },
  })
  const logged: string[] = []
  const condition = new CniCondition({
    api,
    podNamespace: NAMESPACE,
    podName: NAME,
    log: pino({}, { write: (line: string) => void logged.push(line) }),
  })
  t.teardown(() => condition[Symbol.asyncDispose]())
  return {
    kube,
    logged,
    condition,
    conditions: async () => {
      const pod = await api.get(PODS, { namespace: NAMESPACE, name: NAME })
      return pod.ok ? (pod.value.status?.conditions ?? []) : []
    },
    writes: () => kube.requests.filter(({ method }) => method === 'PATCH').length,
  }
}

void t.test('why, and that it is over, beside what the kubelet says', async (t) => {
  const { condition, conditions } = await setUp(t)
  condition.tell('/etc/cni/net.d has no list of plugins')
  await until(async () => chainProblem(await conditions()) !== undefined, 'the condition')
  t.equal(chainProblem(await conditions()), '/etc/cni/net.d has no list of plugins')
  t.match(
    (await conditions()).find(({ type }) => type === 'Ready'),
    READY,
  )
  condition.tell(undefined)
  await until(async () => chainProblem(await conditions()) === undefined, 'the end of it')
  t.match(
    (await conditions()).find(({ type }) => type === 'ambit.io/cni-chained'),
    { status: 'True', reason: 'Chained' },
  )
})

void t.test('what stands there already is not written again', async (t) => {
  const { kube, condition, conditions, writes } = await setUp(t)
  condition.tell('why')
  await until(async () => chainProblem(await conditions()) === 'why', 'the condition')
  const before = kube.requests.length
  condition.tell('why')
  await until(() => kube.requests.slice(before).some(({ method }) => method === 'GET'), 'a look')
  await condition[Symbol.asyncDispose]()
  t.equal(writes(), 1)
})

void t.test('through failures of the API server; the last word counts', async (t) => {
  const { kube, condition, conditions, logged } = await setUp(t)
  kube.fail('PATCH', /status/, 2, 500)
  condition.tell('first')
  condition.tell('last')
  await until(async () => chainProblem(await conditions()) === 'last', 'the condition')
  t.match(logged.join(''), /until then the pod of this agent does not tell of CNI/)
})

void t.test('an agent that no pod runs tells nobody', async (t) => {
  const { kube, condition, writes } = await setUp(t)
  kube.remove(PODS, `${NAMESPACE}/${NAME}`)
  condition.tell('why')
  await until(() => kube.requests.some(({ method }) => method === 'GET'), 'its question')
  await condition[Symbol.asyncDispose]()
  t.equal(writes(), 0)
})
