// SPDX-License-Identifier: Apache-2.0
// NetworkPolicies that a CNI enforces, and the agents beside it. All that it sees of a call between nodes is port 15008: a policy that
// does not let that through keeps the mesh's calls out, which `ambit analyze` says, and one that does opens nothing else.

import t, { type Test } from 'tap'
import { applyShop, installMesh, removeShop, untilCaptured } from './support/mesh.ts'
import { openCluster } from './support/story.ts'
import { missingNetwork } from './support/target.ts'

const OTHER_PORT = 9090
const HBONE_PORT = 15008
const SERVED = '200'
/** What curl prints where it had no answer: the CNI takes its time to enforce, so each is asked for until it is so. */
const NO_ANSWER = '000'
const PATIENCE = 60

/** On the pods of the catalog: its callers, at these ports. */
const policy = (...ports: readonly number[]): object => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'catalog', namespace: 'shop' },
  spec: {
    podSelector: { matchLabels: { app: 'catalog' } },
    policyTypes: ['Ingress'],
    ingress: [
      {
        from: [{ podSelector: { matchLabels: { app: 'frontend' } } }],
        ports: ports.map((port) => ({ port, protocol: 'TCP' })),
      },
    ],
  },
})

await t.test(
  'a CNI enforces NetworkPolicies',
  { skip: missingNetwork('kube-router') },
  async (t) => {
    const { lab } = openCluster(t, removeShop)
    await installMesh(lab)
    await applyShop(lab)
    const ip = await lab.kubectl(
      'get',
      'pod',
      '-n',
      'shop',
      'catalog-v2',
      '-o',
      'jsonpath={.status.podIP}',
    )
    // Of the same pod another port, which no policy names.
    await lab.exec(
      'shop/catalog-v2',
      'sh',
      '-c',
      `SERVICE=other PORT=${OTHER_PORT} node lab/samples/server.ts >/dev/null 2>&1 &
       until curl -sf -o /dev/null localhost:${OTHER_PORT}/healthz; do sleep 0.1; done`,
    )

    /** What a pod comes to have as its answers. */
    const until = async (pod: string, port: number, answer: string): Promise<string> => {
      const script = `n=0; while [ $n -lt ${PATIENCE} ]; do n=$((n + 1))
          got=$(curl -s -m 3 -o /dev/null -w '%{http_code}' http://${ip}:${port}/healthz)
          if [ "$got" = ${answer} ]; then break; fi
          sleep 0.5
        done; echo "$got"`
      return (await lab.exec(pod, 'sh', '-c', script)).trim()
    }
    const served = async (t: Test, pod: string, port = 8080): Promise<void> => {
      t.equal(await until(pod, port, SERVED), SERVED, `${pod} is served at ${port}`)
    }
    const keptOut = async (t: Test, pod: string, port = 8080): Promise<void> => {
      t.equal(await until(pod, port, NO_ANSWER), NO_ANSWER, `${pod} is kept out of ${port}`)
    }

    await t.test('without a mesh, by itself', async (t) => {
      await served(t, 'legacy/batch')
      await lab.apply(policy(8080))
      await keptOut(t, 'legacy/batch')
      await served(t, 'shop/frontend')
      await keptOut(t, 'shop/frontend', OTHER_PORT)
    })

    await t.test('in the mesh, what it lets through is not what it sees: told', async (t) => {
      await lab.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient')
      await untilCaptured(lab, 'shop')
      await keptOut(t, 'shop/frontend')
      const found = await lab.ambitSays('analyze', '-n', 'shop')
      t.match(found, /AMB605.*catalog/s, 'by ambit analyze')
      t.match(found, /15008/, 'with the port')
      t.match(
        lab.agentLog('node-a'),
        /maybe a NetworkPolicy is rejecting HBONE port 15008/,
        'logged',
      )
      const why = await lab.ambitSays('why', 'shop/frontend', 'shop/catalog-v2:8080', '--live')
      t.match(why, /rejects port 15008 between the nodes/, 'and by ambit why --live')
    })

    await t.test('port 15008 let through: the same callers, the same port', async (t) => {
      await lab.apply(policy(8080, HBONE_PORT))
      await served(t, 'shop/frontend')
      await keptOut(t, 'shop/frontend', OTHER_PORT)
      await keptOut(t, 'legacy/batch')
      t.notMatch(await lab.ambitSays('analyze', '-n', 'shop'), /AMB605/, 'and nothing to be said')
    })

    await t.test('taken away: everybody, at every port', async (t) => {
      await lab.kubectl('delete', 'networkpolicy', '-n', 'shop', 'catalog')
      await served(t, 'shop/frontend', OTHER_PORT)
      await served(t, 'legacy/batch')
    })
  },
)
