// SPDX-License-Identifier: Apache-2.0
// Many pods start on one node at once: two hundred, and some while the node's kubelet is killed again and again. Each is in the mesh before its
// first word: the very first thing that its program does is to call a server that takes mutual TLS from its account alone.

import t, { type Test } from 'tap'
import type { DemoLab } from '../../lab/demo/check.ts'
import { SAMPLE_IMAGE } from '../../lab/real/images.ts'
import { NODES } from '../../lab/real/layout.ts'
import { lifeObjects, NAMESPACE } from './support/life-objects.ts'
import { tellOf, underLoad } from './support/load.ts'
import { installMesh, TIMEOUT } from './support/mesh.ts'
import { openStory, startApplication } from './support/story.ts'
import { missingCluster } from './support/target.ts'

const NODE = NODES[1]
const CROWD = 200
/** Started while the kubelet is killed, as often as this. */
const FEW = 30
const KILLS = 3
/** Without a pod more that is ready or gone: nothing moves any more. */
const PATIENCE_MS = 180_000
const SECURITY = 'security.istio.io/v1'
const image = process.env['AMBIT_SAMPLE_IMAGE'] ?? SAMPLE_IMAGE
/** What a pod does before anything else; where it fails, it is done again, and counted. */
const FIRST_WORD = ['curl', '-sS', '-f', '-m', '60', '-o', '/dev/null', `http://web.${NAMESPACE}/`]

const ONLY_CROWD = [
  {
    apiVersion: SECURITY,
    kind: 'AuthorizationPolicy',
    metadata: { namespace: NAMESPACE, name: 'only-crowd' },
    spec: {
      selector: { matchLabels: { app: 'web' } },
      action: 'ALLOW',
      rules: [
        {
          from: [
            {
              source: {
                principals: ['crowd', 'client'].map(
                  (name) => `cluster.local/ns/${NAMESPACE}/sa/${name}`,
                ),
              },
            },
          ],
        },
      ],
    },
  },
  {
    apiVersion: SECURITY,
    kind: 'PeerAuthentication',
    metadata: { namespace: NAMESPACE, name: 'strict' },
    spec: { mtls: { mode: 'STRICT' } },
  },
]

await t.test('many pods start on a node at once', { skip: missingCluster('nodes') }, async (t) => {
  const { lab } = openStory(t)
  await installMesh(lab)
  await startApplication(lab, lifeObjects())
  for (const policy of ONLY_CROWD) {
    await lab.apply(policy)
    const name = `${policy.kind.toLowerCase()}/${policy.metadata.name}`
    await lab.kubectl('wait', '-n', NAMESPACE, name, '--for=condition=Enforced', TIMEOUT)
  }
  await lab.apply({ apiVersion: 'v1', kind: 'List', items: crowdObjects() })

  await t.test('its kubelet is killed while pods start', async (t) => {
    await crowd(t, lab, FEW, async () => {
      for (let kills = 1; kills <= KILLS; kills += 1) {
        await untilAsMany(() => ready(lab), (FEW * kills) / (KILLS + 1))
        await killKubelet(lab)
      }
    })
  })
  await t.test(`${CROWD} pods at once`, async (t) => {
    await crowd(t, lab, CROWD, () => Promise.resolve())
  })
})

function crowdObjects(): readonly object[] {
  const labels = { app: 'crowd' }
  const metadata = { namespace: NAMESPACE, name: 'crowd' }
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: {
        replicas: 0,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            serviceAccountName: 'crowd',
            nodeSelector: { 'kubernetes.io/hostname': NODE },
            terminationGracePeriodSeconds: 1,
            initContainers: [{ name: 'first', image, command: FIRST_WORD }],
            containers: [{ name: 'app', image, command: ['sleep', 'infinity'] }],
          },
        },
      },
    },
  ]
}

interface CrowdPod {
  readonly metadata: {
    readonly name: string
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly status?: {
    readonly initContainerStatuses?: readonly { readonly restartCount: number }[]
  }
}

async function podsOfCrowd({ kubectl }: DemoLab): Promise<readonly CrowdPod[]> {
  const said = await kubectl('get', 'pods', '-n', NAMESPACE, '-l', 'app=crowd', '-o', 'json')
  return (JSON.parse(said) as { readonly items: readonly CrowdPod[] }).items
}

/** Starts so many, under load from elsewhere, while `meanwhile` goes on; looks at each, and lets them go again. */
async function crowd(
  t: Test,
  lab: DemoLab,
  count: number,
  meanwhile: () => Promise<void>,
): Promise<void> {
  const startMs = performance.now()
  const seconds = (): string => ((performance.now() - startMs) / 1000).toFixed(1)
  const report = await underLoad(lab, async () => {
    await scale(lab, count)
    await meanwhile()
    await untilAsMany(() => ready(lab), count)
  })
  t.comment(`${count} are ready after ${seconds()} s`)
  const pods = await podsOfCrowd(lab)
  const again = pods.filter(({ status }) =>
    status?.initContainerStatuses?.some(({ restartCount }) => restartCount > 0),
  )
  t.strictSame(
    again.map(({ metadata }) => metadata.name),
    [],
    'the first call of each is served',
  )
  const inMesh = pods.filter(
    ({ metadata }) => metadata.annotations?.['ambient.istio.io/redirection'] === 'enabled',
  )
  t.equal(inMesh.length, count)
  t.equal(report.failed, 0, `others notice nothing: ${tellOf(report)}`)
  t.comment(`the node's agent: ${(await agentMemory(lab)).toFixed(0)} MiB`)
  await scale(lab, 0)
  await untilAsMany(async () => count - (await namesOfCrowd(lab)).length, count)
  t.comment(`and gone after ${seconds()} s`)
}

async function scale({ kubectl }: DemoLab, count: number): Promise<void> {
  await kubectl('scale', '-n', NAMESPACE, 'deployment/crowd', `--replicas=${count}`)
}

/** Waits until so many are counted, as long as one more is. */
async function untilAsMany(counted: () => Promise<number>, count: number): Promise<void> {
  let most = 0
  let since = Date.now()
  for (;;) {
    const now = await counted()
    if (now >= count) return
    if (now > most) {
      most = now
      since = Date.now()
    }
    if (Date.now() - since > PATIENCE_MS) throw new Error(`no more than ${most} of ${count} pods`)
  }
}

async function ready({ kubectl }: DemoLab): Promise<number> {
  const field = 'jsonpath={.status.readyReplicas}'
  return Number(await kubectl('get', '-n', NAMESPACE, 'deployment/crowd', '-o', field))
}

async function namesOfCrowd({ kubectl }: DemoLab): Promise<readonly string[]> {
  const said = await kubectl('get', 'pods', '-n', NAMESPACE, '-l', 'app=crowd', '-o', 'name')
  return said.split('\n').filter(Boolean)
}

/** Its node starts it again. */
async function killKubelet(lab: DemoLab): Promise<void> {
  const script =
    'for at in /proc/[0-9]*; do [ "$(cat "$at/comm")" != kubelet ] || kill -9 "${at#/proc/}"; done'
  await lab.nodeExec(NODE, 'sh', '-c', script)
}

/** Resident, all of its processes; MiB. */
async function agentMemory(lab: DemoLab): Promise<number> {
  const script =
    'for at in /proc/[0-9]*; do tr "\\0" " " <"$at/cmdline" | grep -q "main.ts agent" && grep VmRSS "$at/status"; done; true'
  const said = await lab.nodeExec(NODE, 'sh', '-c', script)
  const sizes = [...said.matchAll(/VmRSS:\s+(\d+) kB/g)].map(([, size]) => Number(size))
  return sizes.reduce((sum, each) => sum + each, 0) / 1024
}
