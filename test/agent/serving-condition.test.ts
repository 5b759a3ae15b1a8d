// SPDX-License-Identifier: Apache-2.0
// An agent that has its node says so on its pod, where the pod waits for it.

import { pino } from 'pino'
import t, { type Test } from 'tap'
import { ServingCondition } from '../../agent/serving-condition.ts'
import { createKubeApi, type Pod, PODS } from '../../mesh/kube/index.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { until } from '../support/until.ts'

const NAMESPACE = 'ambit-system'
const NAME = 'ambit-agent-x7k2p'
const GATE = 'ambit.io/serves-node'
type Conditions = NonNullable<NonNullable<Pod['status']>['conditions']>
const READY: Conditions[number] = { type: 'Ready', status: 'False' }

interface Setting {
  readonly kube: FaultyApi
  readonly logged: string[]
  conditions(): Promise<Conditions>
  /** How often the pod was written to. */
  writes(): number
  tell(): ServingCondition
}

async function setUp(t: Test, gates: readonly string[], told: Conditions = []): Promise<Setting> {
  const kube = new FaultyApi()
  await kube.start()
  t.teardown(() => kube.stop())
  const api = createKubeApi(kube.access())
  kube.put(PODS, {
    metadata: { namespace: NAMESPACE, name: NAME },
    spec: {
      containers: [{ name: 'agent', image: 'host' }],
      readinessGates: gates.map((conditionType) => ({ conditionType })),
    },
    status: { conditions: [READY, ...told] },
  })
  const logged: string[] = []
  return {
    kube,
    logged,
    conditions: async () => {
      const pod = await api.get(PODS, { namespace: NAMESPACE, name: NAME })
      return pod.ok ? (pod.value.status?.conditions ?? []) : []
    },
    writes: () => kube.requests.filter(({ method }) => method === 'PATCH').length,
    tell: () => {
      const telling = new ServingCondition({
        api,
        podNamespace: NAMESPACE,
        podName: NAME,
        log: pino({}, { write: (line: string) => void logged.push(line) }),
      })
      t.teardown(() => telling[Symbol.asyncDispose]())
      return telling
    },
  }
}

const isTold = (conditions: Conditions): boolean =>
  conditions.some(({ type, status }) => type === GATE && status === 'True')

void t.test('it is told beside what the kubelet says', async (t) => {
  const { tell, conditions } = await setUp(t, [GATE])
  tell()
  await until(async () => isTold(await conditions()), 'the condition')
  t.match(
    (await conditions()).find(({ type }) => type === 'Ready'),
    READY,
  )
})

void t.test('until the API server has heard it', async (t) => {
  const { kube, tell, conditions, logged } = await setUp(t, [GATE])
  kube.fail('PATCH', /status/, 2, 500)
  tell()
  await until(async () => isTold(await conditions()), 'the condition')
  t.match(logged.join(''), /until then the pod of this agent is not ready/)
})

for (const [what, gates, told] of [
  ['a pod that does not wait for it', [], []],
  ['one of which it is said already', [GATE], [{ type: GATE, status: 'True' }]],
] as const)
  void t.test(`${what} is left alone`, async (t) => {
    const { kube, tell, writes } = await setUp(t, gates, [...told])
    const telling = tell()
    await until(() => kube.requests.some(({ method }) => method === 'GET'), 'its question')
    await telling[Symbol.asyncDispose]()
    t.equal(writes(), 0)
  })
