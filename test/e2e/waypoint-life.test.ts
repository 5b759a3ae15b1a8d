// SPDX-License-Identifier: Apache-2.0
// What a waypoint lives through while the shop is open: its routes change, bad ones among them, its pods are replaced, there are more of them
// and fewer again. No call of the frontend fails of it, neither one of a new connection nor one of a kept one.

import t, { type Test } from 'tap'
import type { Lab } from '../../lab/cluster/index.ts'
import type { LoadReport } from '../../lab/samples/load.ts'
import { PODS } from '../../mesh/kube/index.ts'
import { missing } from '../helpers.ts'
import { meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import { objectsIn } from './support/objects.ts'
import { type Running, startFile } from './support/pods.ts'
import { answers, asPrinted, CATALOG, printed, SHOP, until } from './support/waypoint-guide.ts'

const CHANGES = 100
/** Of the changes every so many-th is of a bad route. */
const BAD_EVERY = 4
/** Long enough for a busy machine to start three waypoints. */
const ROLLED = '--timeout=120s'
const PATIENCE_MS = 120_000
const NEW_PER_SECOND = 20
const KEPT = 8
/** Takes its time, so that whatever happens, some are under way. */
const LATE = `${CATALOG}late`
/** By which an answer says which change of the route it is of. */
const HEADER = 'x-release'
const WAYPOINT_PODS = 'gateway.networking.k8s.io/gateway-name=waypoint'

/** The catalog's route of a release: to either version in turn, beside a rule that nobody can read. */
const release = (number: number): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: catalog, namespace: shop }
spec:
  parentRefs: [{ group: "", kind: Service, name: catalog }]
  rules:
    - matches: [{ headers: [{ type: RegularExpression, name: x-odd, value: "(" }] }]
      backendRefs: [{ name: nobody, port: 80 }]
    - filters:
        - type: ResponseHeaderModifier
          responseHeaderModifier: { set: [{ name: ${HEADER}, value: "${number}" }] }
      backendRefs: [{ name: catalog-v${1 + (number % 2)}, port: 80 }]
`

/** Routes of the same Service that a waypoint cannot do as they say, for a path that nobody asks for. */
const BAD_RULES = [
  '{ matches: [{ path: { type: RegularExpression, value: "/bad/(" } }], backendRefs: [{ name: catalog-v1, port: 80 }] }',
  '{ matches: [{ path: { value: /bad } }], backendRefs: [{ name: nobody, port: 80 }] }',
  '{ matches: [{ path: { value: /bad } }], backendRefs: [{ name: kubernetes, namespace: default, port: 443 }] }',
] as const

const bad = (number: number): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: bad, namespace: shop }
spec:
  parentRefs: [{ group: "", kind: Service, name: catalog }]
  rules:
    - ${BAD_RULES[number % BAD_RULES.length] ?? ''}
`

/** How many pods the waypoint is to have. */
const size = (replicas: number): string => `
apiVersion: v1
kind: ConfigMap
metadata: { name: waypoint-size, namespace: shop }
data: { deployment: "spec: { replicas: ${replicas} }" }
`

const PARAMETERS = JSON.stringify({
  spec: {
    infrastructure: { parametersRef: { group: '', kind: 'ConfigMap', name: 'waypoint-size' } },
  },
})

type Load = Running<LoadReport>

function startLoad(t: Test, lab: Lab): Load {
  const load: Load = startFile(
    lab,
    'shop/frontend',
    'lab/samples/load.ts',
    ...[LATE, NEW_PER_SECOND, KEPT, HEADER],
  )
  t.teardown(() => load.child.kill('SIGKILL'))
  return load
}

/** New and kept connections have all had their calls since. */
async function phase(load: Load, name: string): Promise<void> {
  load.child.stdin?.write(`${name}\n`)
  await load.said(`done ${name}`)
}

async function nothingFailed(t: Test, load: Load): Promise<void> {
  load.child.stdin?.end()
  const { calls, counted } = await load.finish()
  t.comment(`${calls} calls`)
  t.strictSame(counted, {}, 'no call failed')
}

await t.test('while its clients call', { skip: missing(...NEEDS) }, async (t) => {
  const lab = await meshLab(t, [SHOP])
  await asPrinted(lab, 'kubectl label namespace shop istio.io/dataplane-mode=ambient')
  await waitForCapture(lab, 'shop', true)
  await asPrinted(lab, 'ambit waypoint apply -n shop --enroll-namespace --wait')
  await lab.apply(printed('versions'))
  await lab.apply(release(0))
  await until(lab, 'the first release', async () => (await answers(lab, 1)).length === 1)
  const pods = async (): Promise<readonly string[]> =>
    (await objectsIn(lab, PODS, 'shop', WAYPOINT_PODS)).map(({ metadata }) => metadata?.name ?? '')
  const rolled = async (): Promise<void> => {
    await lab.kubectl('rollout', 'status', '-n', 'shop', 'deployment/waypoint', ROLLED)
  }
  const untilPods = async (what: string, holds: (names: readonly string[]) => boolean) => {
    await lab.waitFor(
      what,
      async () => {
        const names = await pods()
        return holds(names) ? names : undefined
      },
      PATIENCE_MS,
    )
  }

  await t.test('a waypoint has its routes changed a hundred times', async (t) => {
    const load = startLoad(t, lab)
    await load.said(`${HEADER} 0`)
    for (let number = 1; number <= CHANGES; number += 1) {
      if (number % BAD_EVERY === 0) {
        await lab.apply(bad(number / BAD_EVERY))
        continue
      }
      await lab.apply(release(number))
      await load.said(`${HEADER} ${number}`)
    }
    await phase(load, 'after all')
    await nothingFailed(t, load)
    const status = await lab.kubectl('get', 'httproute', '-n', 'shop', 'bad', '-o', 'yaml')
    t.match(status, /status: "False"/, 'and the bad route says that it is bad')
  })

  await t.test('its pod is replaced', async (t) => {
    const load = startLoad(t, lab)
    await phase(load, 'before')
    const before = await pods()
    await lab.kubectl('rollout', 'restart', '-n', 'shop', 'deployment/waypoint')
    await rolled()
    await untilPods('the old pod to go', (names) => !names.some((name) => before.includes(name)))
    await phase(load, 'after')
    await nothingFailed(t, load)
  })

  await t.test('it has three pods, and one again', async (t) => {
    const load = startLoad(t, lab)
    await phase(load, 'before')
    await lab.apply(size(3))
    await lab.kubectl(
      'patch',
      'gateway',
      '-n',
      'shop',
      'waypoint',
      '--type=merge',
      '-p',
      PARAMETERS,
    )
    await untilPods('three pods', (names) => names.length === 3)
    await rolled()
    for (const pod of await pods())
      await lab.waitFor(`a call through ${pod}`, () =>
        lab.log(`shop/${pod}`).includes('"path":"/late"') ? true : undefined,
      )
    await lab.apply(size(1))
    await untilPods('one pod', (names) => names.length === 1)
    await phase(load, 'after')
    await nothingFailed(t, load)
  })
})
