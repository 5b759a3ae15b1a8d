// SPDX-License-Identifier: Apache-2.0
// Many pods that come and go at once: clients and servers that are rolled out together and lose no call, pods of one node that start just while
// their agent is deleted.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Lab } from '../../lab/cluster/index.ts'
import { PODS } from '../../mesh/kube/index.ts'
import { missing } from '../helpers.ts'
import type { CallerReport } from './programs/rolled-caller.ts'
import {
  AGENTS,
  agentOf,
  applyAll,
  configDump,
  MESH_NAMESPACE,
  meshLab,
  NEEDS,
} from './support/mesh-lab.ts'
import { isCaptured, objectsIn } from './support/objects.ts'
import { namespaceManifest, serverManifest } from './support/pods.ts'

const PORT = 8080
const NEWCOMERS = 30
const REPLICAS = 3
const ROLLED = '--timeout=300s'
/** In which a busy machine makes all of them. Milliseconds. */
const CROWD_MS = 300_000

function deployment(name: string, command: readonly string[], spec: object): object {
  const labels = { app: name }
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { namespace: 'roll', name },
    spec: {
      replicas: REPLICAS,
      selector: { matchLabels: labels },
      strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
      template: {
        metadata: { labels },
        spec: {
          terminationGracePeriodSeconds: 30,
          ...spec,
          containers: [
            {
              name: 'app',
              image: 'host',
              command,
              ...(name === 'web' && {
                readinessProbe: { httpGet: { path: '/healthz', port: PORT }, periodSeconds: 1 },
              }),
              ...(name === 'callers' && {
                volumeMounts: [{ name: 'reports', mountPath: '/reports' }],
              }),
            },
          ],
        },
      },
    },
  }
}

await t.test('many pods at once', { skip: missing(...NEEDS) }, async (t) => {
  const lab = await meshLab(t)
  await t.test('clients and servers rolled out together lose no call', async (t) => {
    await rolledTogether(t, lab)
  })
  await t.test(
    'pods of a node that start at once, while its agent is deleted, are captured, each, and go',
    async (t) => await beheaded(t, lab),
  )
})

async function rolledTogether(t: Test, lab: Lab): Promise<void> {
  const reports = mkdtempSync(join(tmpdir(), 'ambit-reports-'))
  t.teardown(() => rmSync(reports, { recursive: true, force: true }))
  const volume = { name: 'reports', hostPath: { path: reports } }
  await applyAll(lab, [
    namespaceManifest('roll'),
    deployment('web', ['node', 'lab/samples/server.ts'], {}),
    deployment(
      'callers',
      ['node', 'test/e2e/programs/rolled-caller.ts', 'http://web.roll/', '/reports'],
      { volumes: [volume] },
    ),
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { namespace: 'roll', name: 'web' },
      spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: PORT }] },
    },
  ])
  const kubectl = async (...words: string[]): Promise<string> =>
    await lab.kubectl(...words, '--namespace=roll')
  const both = ['deployment/web', 'deployment/callers'] as const
  await kubectl('rollout', 'status', both[0], ROLLED)
  // Callers of the first generation may have been there before whom they call.
  await kubectl('rollout', 'restart', both[1])
  for (const each of both) await kubectl('rollout', 'status', each, ROLLED)
  await gone(lab, 'roll', REPLICAS * both.length)
  for (const name of readdirSync(reports)) rmSync(join(reports, name))

  await kubectl('rollout', 'restart', ...both)
  for (const each of both) await kubectl('rollout', 'status', each, ROLLED)
  // Those that were there before, and those that came.
  await kubectl('scale', both[1], '--replicas=0')
  await gone(lab, 'roll', REPLICAS)
  const all = readdirSync(reports).map(
    (name) => JSON.parse(readFileSync(join(reports, name), 'utf8')) as CallerReport,
  )
  t.equal(all.length, 2 * REPLICAS, 'clients of both generations')
  const calls = all.reduce((sum, report) => sum + report.calls, 0)
  t.comment(`${calls} calls`)
  t.ok(calls > 0)
  t.strictSame(
    all.flatMap(({ failures }) => failures),
    [],
  )
  await kubectl('delete', 'namespace', 'roll', ROLLED)
}

/** Waits until no more pods than so many are left of a namespace. */
async function gone(lab: Lab, namespace: string, left: number): Promise<void> {
  await lab.waitFor(
    `${namespace} to have ${left} pods`,
    async () => ((await objectsIn(lab, PODS, namespace)).length <= left ? true : undefined),
    CROWD_MS,
  )
}

function idle(namespace: string, name: string): object {
  return serverManifest({ namespace, name, node: 'node-b', command: ['sleep', 'infinity'] })
}

async function beheaded(t: Test, lab: Lab): Promise<void> {
  await applyAll(lab, [
    namespaceManifest('late'),
    ...Array.from({ length: NEWCOMERS }, (_, index) => idle('late', `pod-${index}`)),
  ])
  const [, before = ''] = (await agentOf(lab, 'node-b')).split('/')
  await lab.waitFor(
    'some to be captured',
    async () => ((await objectsIn(lab, PODS, 'late')).some(isCaptured) ? true : undefined),
    CROWD_MS,
  )
  await lab.kubectl('delete', 'pod', '-n', MESH_NAMESPACE, before, '--wait=false')
  await captured(lab, 'late', NEWCOMERS)
  const agents = await objectsIn(lab, PODS, MESH_NAMESPACE, AGENTS)
  t.ok(agents.every(({ metadata }) => metadata?.name !== before || metadata.deletionTimestamp))
  // A pod is captured before its kubelet says of its containers that they started.
  await lab.waitForPods('late', CROWD_MS)
  const restarts = (await objectsIn(lab, PODS, 'late')).map(
    ({ status }) => status?.containerStatuses?.[0]?.restartCount,
  )
  t.strictSame(
    restarts,
    Array.from({ length: NEWCOMERS }, () => 0),
    'none was started twice',
  )
  await lab.kubectl('delete', 'namespace', 'late', ROLLED)
  await lab.waitFor('nothing of them to be left', async () => {
    const { capture } = await configDump(lab, 'node-b')
    return capture?.every(({ namespace }) => namespace !== 'late') ? true : undefined
  })
}

async function captured(lab: Lab, namespace: string, count: number): Promise<void> {
  await lab.waitFor(
    `${count} pods of ${namespace} in the mesh`,
    async () => {
      const pods = await objectsIn(lab, PODS, namespace)
      return pods.filter(isCaptured).length === count ? true : undefined
    },
    CROWD_MS,
  )
}
