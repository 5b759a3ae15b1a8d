// SPDX-License-Identifier: Apache-2.0
// What stands for kube-proxy in the lab, as callers meet it: every address of a Service, and whom it leads to.

import t from 'tap'
import type { Lab } from '../../lab/cluster/index.ts'
import { tryCommand } from '../../lab/machine/command.ts'
import { netnsPath } from '../../lab/machine/layout.ts'
import { missing } from '../helpers.ts'
import { ECHO_SERVER, IDLE, podManifest, testLab } from './fixture.ts'

const skip = missing('root', 'cgroup2')

// Bounded by its waits; a loaded machine makes them long.
const REFUSED = 'curl failed with 7'
const TIMED_OUT = 'curl failed with 28'
/** Node-a's and node-b's addresses on the fabric. */
const NODES = { a: ['172.30.0.10', 'fd98:30::a0'], b: ['172.30.0.11', 'fd98:30::a1'] } as const

async function curl(lab: Lab, pod: string, url: string): Promise<string> {
  const output = await lab.exec(pod, ['curl', '-sg', '--max-time', '2', url])
  return output.code === 0 ? output.stdout : `curl failed with ${String(output.code)}`
}

/** As a machine of the same network that is no node. */
async function curlFromOutside(lab: Lab, url: string): Promise<string> {
  const output = await tryCommand([
    'nsenter',
    `--net=${netnsPath(lab.layout.fabricNetns)}`,
    ...['curl', '-sg', '--max-time', '2', url],
  ])
  return output.code === 0 ? output.stdout : `curl failed with ${String(output.code)}`
}

/** Who answered so many calls. */
async function answerers(
  calls: number,
  call: () => Promise<string>,
  enough = Number.POSITIVE_INFINITY,
): Promise<readonly string[]> {
  const names = new Set<string>()
  for (let made = 0; made < calls && names.size < enough; made += 1)
    names.add((await call()).split(' ')[1] ?? 'nobody')
  return [...names].toSorted()
}

/** Who of the three answered, asked until each has; that one is left out of so many calls by chance does not happen. */
const spreadOver3 = (call: () => Promise<string>): Promise<readonly string[]> =>
  answerers(80, call, 3)

const READY_PROBE = { readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 } }

await t.test('the services of the lab', { skip }, async (t) => {
  const lab = await testLab(t)
  await lab.apply(podManifest('client', IDLE, { node: 'node-a' }))
  const echoes = [
    ['one', 'node-a'],
    ['two', 'node-b'],
    ['three', 'node-b'],
  ] as const
  for (const [name, node] of echoes)
    await lab.apply(
      podManifest(name, ECHO_SERVER, {
        node,
        labels: { app: 'echo', only: name },
        container: {
          ...READY_PROBE,
          ports: [{ containerPort: 8080, ...(name === 'two' ? { hostPort: 8088 } : {}) }],
        },
      }),
    )
  const service = (name: string, spec: string, selector = '{app: echo}'): string => `
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: ${selector}
  ports: [{port: 80, targetPort: 8080}]
${spec}
`
  await lab.apply(
    [
      service('sticky', '  sessionAffinity: ClientIP'),
      service('local', '  internalTrafficPolicy: Local'),
      service('far', '  internalTrafficPolicy: Local', '{only: two}'),
      service('wide', '  type: NodePort\n  externalIPs: [198.51.100.7, "2001:db8:7::7"]'),
      service('here', '  type: NodePort\n  externalTrafficPolicy: Local'),
      service('empty', '  externalIPs: [198.51.100.9]', '{app: nobody}'),
    ].join('---'),
  )
  await lab.waitForPods('default')
  const read = (kind: string, name: string, path: string): Promise<string> =>
    lab.kubectl('get', kind, name, '-o', `jsonpath=${path}`)
  const addressesOf = async (name: string): Promise<readonly string[]> =>
    (await read('service', name, '{.spec.clusterIPs[*]}')).split(' ')
  const nodePortOf = (name: string): Promise<string> =>
    read('service', name, '{.spec.ports[0].nodePort}')
  await lab.waitFor('three endpoints', async () =>
    (await spreadOver3(() => curl(lab, 'client', 'http://wide/'))).length === 3 ? true : undefined,
  )

  await t.test('sessionAffinity: ClientIP sticks, for both families', async (t) => {
    const [ip4 = '', ip6 = ''] = await addressesOf('sticky')
    t.equal((await answerers(20, () => curl(lab, 'client', `http://${ip4}/`))).length, 1)
    t.equal((await answerers(10, () => curl(lab, 'client', `http://[${ip6}]/`))).length, 1)
  })

  await t.test('internalTrafficPolicy: Local stays on the node, or drops', async (t) => {
    const [local = ''] = await addressesOf('local')
    t.strictSame(await answerers(12, () => curl(lab, 'client', `http://${local}/`)), ['one'])
    const [far = ''] = await addressesOf('far')
    t.equal(await curl(lab, 'client', `http://${far}/`), TIMED_OUT, 'dropped, as kube-proxy does')
  })

  await t.test('external and load-balancer addresses lead to the endpoints', async (t) => {
    await lab.kubectl(
      ...['patch', 'service', 'wide', '--subresource=status', '--type=merge', '-p'],
      '{"status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.8"}]}}}',
    )
    await lab.waitFor('the address of the load balancer', async () =>
      (await curl(lab, 'client', 'http://198.51.100.8/')).includes(' ') ? true : undefined,
    )
    for (const host of ['198.51.100.7', '198.51.100.8', '[2001:db8:7::7]'])
      t.strictSame(
        await spreadOver3(() => curl(lab, 'client', `http://${host}/`)),
        ['one', 'three', 'two'],
        host,
      )
    t.equal(await curl(lab, 'client', 'http://198.51.100.9/'), REFUSED, 'without endpoints')
  })

  await t.test('a node port answers on every node, and keeps strangers’ addresses', async (t) => {
    const wide = await nodePortOf('wide')
    for (const host of [NODES.a[0], `[${NODES.b[1]}]`]) {
      const answers = await spreadOver3(() => curlFromOutside(lab, `http://${host}:${wide}/`))
      t.strictSame(answers, ['one', 'three', 'two'], host)
    }
    const here = await nodePortOf('here')
    const url = `http://${NODES.a[0]}:${here}/`
    t.strictSame(await answerers(8, () => curlFromOutside(lab, url)), ['one'])
    t.match(await curlFromOutside(lab, url), /^172\.30\.0\.2 /, 'from its own address')
    const inside = await spreadOver3(() => curl(lab, 'client', url))
    t.strictSame(inside, ['one', 'three', 'two'], 'who is inside may use all')
  })

  await t.test('a host port leads to its pod, on its node alone', async (t) => {
    for (const host of [NODES.b[0], `[${NODES.b[1]}]`]) {
      t.match(await curlFromOutside(lab, `http://${host}:8088/`), / two$/)
      t.match(await curl(lab, 'client', `http://${host}:8088/`), / two$/)
      t.match(await curl(lab, 'two', `http://${host}:8088/`), / two$/, 'the pod itself')
    }
    t.equal(await curlFromOutside(lab, `http://${NODES.a[0]}:8088/`), REFUSED)
  })
})
