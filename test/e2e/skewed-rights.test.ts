// SPDX-License-Identifier: Apache-2.0
// On a true API server with RBAC, programs of one version run with the rights of another, either way round, under traffic. Nothing ends, what
// is missing is named, and what it was missing for goes on once the rights are there.

import t, { type Test } from 'tap'
import { createLab, type Lab, takeDown } from '../../lab/cluster/index.ts'
import { missingPrograms, startRealApiServer } from '../../lab/kubernetes/real/api-server.ts'
import { defineResource, type KubeObject, type Pod, PODS } from '../../mesh/kube/index.ts'
import { missing } from '../helpers.ts'
import { TCP_PORTS } from './programs/ports.ts'
import type { Steady } from './programs/steady.ts'
import { AGENTS, applyAll, MESH_NAMESPACE, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import { objectsIn } from './support/objects.ts'
import {
  areOf,
  installKinds,
  installPrograms,
  installRights,
  isOf,
  missingPrevious,
  PRESENT,
  previousVersion,
  type Version,
} from './support/other-version.ts'
import { namespaceManifest, serverManifest, serviceManifest, start } from './support/pods.ts'
import { startRefused } from './support/pod-traffic.ts'
import { inForce } from './support/policy-objects.ts'

const skip = missing(...NEEDS) || missingPrevious() || missingPrograms('kube-apiserver', 'etcd')
const CONTROLLERS = 'app=ambit-controller'
const KINDS = [CONTROLLERS, AGENTS] as const
/** Taken out of the controller's role, as of a version that did not know it. */
const NEWEST_KIND = 'backendtlspolicies'
const DRAIN_S = 1_200
const HELD = 4
const ROUNDS_PER_PHASE = 40
const PATIENCE_MS = 180_000

interface ClusterRole extends KubeObject {
  readonly rules?: readonly { readonly resources?: readonly string[] }[]
}

const CLUSTER_ROLES = defineResource<ClusterRole>(
  'rbac.authorization.k8s.io',
  'v1',
  'clusterroles',
  'ClusterRole',
  'cluster',
)

const NO_STRANGER = {
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { namespace: 'mesh', name: 'no-stranger' },
  spec: {
    action: 'DENY',
    rules: [{ from: [{ source: { serviceAccounts: ['mesh/stranger'] } }] }],
  },
}

await t.test('programs of one version with the rights of another', { skip }, async (t) => {
  const previous = previousVersion()
  const lab = await labOnTrueServer(t)
  // Whoever may not read a kind hears of it only where there is the kind.
  await installKinds(lab, PRESENT)
  await installRights(lab, previous)
  await installPrograms(lab, previous, DRAIN_S)
  const client = (name: string): object =>
    serverManifest({ namespace: 'mesh', name, node: 'node-a', spec: { serviceAccountName: name } })
  await applyAll(lab, [
    namespaceManifest('mesh'),
    ...['client', 'stranger'].map((name) => ({
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { namespace: 'mesh', name },
    })),
    ...['client', 'stranger'].map(client),
    serverManifest({ namespace: 'mesh', name: 'near', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'far', node: 'node-b' }),
    ...['near', 'far'].map((app) => serviceManifest('mesh', app, { app })),
  ])
  await lab.waitForPods(undefined, PATIENCE_MS)
  await waitForCapture(lab, 'mesh', true)
  await inForce(lab, NO_STRANGER)
  const steady = ['near.mesh', 'far.mesh'].map((target) =>
    start<Steady>(lab, 'mesh/client', 'steady', target, TCP_PORTS.echo, HELD, ROUNDS_PER_PHASE),
  )
  t.teardown(() => {
    for (const { child } of steady) child.kill('SIGKILL')
  })
  await Promise.all(steady.map((each) => each.said('steady')))
  const stranger = await startRefused(t, lab, 'mesh/stranger', 'http://far.mesh/')
  const phase = async (name: string): Promise<void> => {
    t.comment(`${new Date().toISOString()} ${name}`)
    for (const { child } of steady) child.stdin?.write(`${name}\n`)
    await Promise.all(steady.map((each) => each.said(`done ${name}`)))
  }
  await phase('before')
  // Whoever watches it already goes on.
  await forbidKind(lab, NEWEST_KIND)

  await t.test('this version, before its roles', async (t) => {
    await installPrograms(lab, PRESENT, DRAIN_S)
    await runs(lab, PRESENT)
    const told = await lab.waitFor('word of the right that is missing', async () => {
      const found = await complaints(lab, PRESENT)
      return found.includes(`Cannot list ${NEWEST_KIND}`) ? found : undefined
    })
    t.comment(told)
    t.equal(told.split('\n').filter((line) => line.includes(NEWEST_KIND)).length, 1, 'once')
    await phase('ahead of its roles')
    await installRights(lab, PRESENT)
    await isWhole(lab, PRESENT)
    await nobodyEnded(t, lab)
    await phase('with its roles')
  })
  await t.test('the previous version, with roles that are newer', async (t) => {
    await installPrograms(lab, previous, DRAIN_S)
    await runs(lab, previous)
    t.comment(await complaints(lab, previous))
    await phase('behind its roles')
    await installRights(lab, previous)
    await isWhole(lab, previous)
    await nobodyEnded(t, lab)
    await phase('with its own again')
  })

  for (const [index, where] of ['on one node', 'across nodes'].entries()) {
    const told = await steady[index]?.finish('SIGTERM')
    t.comment(`${where}: ${told?.heldWords} words, ${told?.opened} new connections`)
    t.strictSame(told?.heldFailures, [], `${where}, every established connection lives on`)
    t.strictSame(told?.openFailures, [], `${where}, every new connection succeeds`)
  }
  const calls = await stranger.stop()
  const letIn = calls.filter(({ error }) => error === undefined)
  t.strictSame(letIn, [], `the stranger is never served, in ${calls.length} calls`)
})

async function labOnTrueServer(t: Test): Promise<Lab> {
  const name = `r${process.pid}`
  const server = await startRealApiServer()
  t.teardown(async () => {
    const { leftovers } = await takeDown(name)
    await server[Symbol.asyncDispose]()
    if (leftovers.length > 0) throw new Error(`left of lab ${name}: ${leftovers.join('; ')}`)
  })
  return await createLab({ name, mesh: false, attach: { kubeconfig: server.kubeconfig } })
}

/** Takes the right to read a kind from the controllers. */
async function forbidKind(lab: Lab, plural: string): Promise<void> {
  const role = { name: 'ambit-controller' }
  const found = await lab.api.get(CLUSTER_ROLES, role)
  if (!found.ok) throw new Error(found.error.message)
  const rules = (found.value.rules ?? []).map((rule) => ({
    ...rule,
    ...(rule.resources && { resources: rule.resources.filter((name) => name !== plural) }),
  }))
  const patched = await lab.api.patch(CLUSTER_ROLES, role, { rules }, { type: 'merge' })
  if (!patched.ok) throw new Error(patched.error.message)
}

/** Waits until the version's programs run; ready or not. */
async function runs(lab: Lab, version: Version): Promise<void> {
  for (const label of KINDS)
    await lab.waitFor(
      `pods of ${version.name}`,
      async () => {
        const pods = await objectsIn(lab, PODS, MESH_NAMESPACE, label)
        const running = pods.filter((pod) => isOf(version, pod) && hasStarted(pod))
        return running.length > 0 ? true : undefined
      },
      PATIENCE_MS,
    )
}

function hasStarted({ status }: Pod): boolean {
  return status?.containerStatuses?.every(({ state }) => state?.running !== undefined) === true
}

/** Waits until all programs are the version's, and ready. */
async function isWhole(lab: Lab, version: Version): Promise<void> {
  const counts = { [CONTROLLERS]: 1, [AGENTS]: lab.nodes.length }
  for (const label of KINDS)
    await areOf(lab, label, MESH_NAMESPACE, label, version, counts[label], PATIENCE_MS)
}

async function nobodyEnded(t: Test, lab: Lab): Promise<void> {
  for (const label of KINDS)
    for (const { metadata, status } of await objectsIn(lab, PODS, MESH_NAMESPACE, label))
      for (const { restartCount } of status?.containerStatuses ?? [])
        t.equal(restartCount, 0, `${metadata?.name ?? ''} runs for the first time`)
}

/** What a version's programs have said of rights that they have not. */
async function complaints(lab: Lab, version: Version): Promise<string> {
  const found: string[] = []
  for (const label of KINDS)
    for (const pod of await objectsIn(lab, PODS, MESH_NAMESPACE, label)) {
      const { metadata } = pod
      if (!isOf(version, pod)) continue
      for (const line of lab.log(`${MESH_NAMESPACE}/${metadata?.name ?? ''}`).split('\n'))
        if (line.includes('forbidden')) found.push(`${metadata?.name ?? ''}: ${line}`)
    }
  return found.join('\n')
}
