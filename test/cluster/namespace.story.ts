// SPDX-License-Identifier: Apache-2.0
// A namespace of the mesh is deleted under traffic, with pods that hold out. Until the last of them is gone its policies hold, even where the
// cluster takes them away first, and its pods are in the mesh; nobody else notices. Another one of that name is another.

import t from 'tap'
import type { DemoLab } from '../../lab/demo/check.ts'
import { SAMPLE_IMAGE } from '../../lab/real/images.ts'
import { formatHostPort } from '../../mesh/model/host-port.ts'
import type { LoadReport } from '../../lab/samples/load.ts'
import { clientObjects, lifeObjects, NAMESPACE } from './support/life-objects.ts'
import { type Running, startSample, tellOf } from './support/load.ts'
import { installMesh, TIMEOUT, untilCaptured } from './support/mesh.ts'
import { openCluster, startApplication } from './support/story.ts'
import { missingCluster } from './support/target.ts'

const PASSING = 'ambit-passing'
const OUTSIDE = 'ambit-outside'
const STRANGER = 'stranger'
const PORT = 8080
/** How long its pods hold out: all that this story does meanwhile takes less. Seconds. */
const GRACE_S = 60
/** Goes on when it is told to end. */
const STUBBORN = 'trap "" TERM; node lab/samples/server.ts & while :; do wait; done'
const SECURITY = 'security.istio.io/v1'
const image = process.env['AMBIT_SAMPLE_IMAGE'] ?? SAMPLE_IMAGE

const PODS = ['client', 'server'] as const

const NO_STRANGER = {
  apiVersion: SECURITY,
  kind: 'AuthorizationPolicy',
  metadata: { namespace: PASSING, name: 'no-stranger' },
  spec: {
    action: 'DENY',
    rules: [{ from: [{ source: { serviceAccounts: [`${NAMESPACE}/${STRANGER}`] } }] }],
  },
}
const STRICT = {
  apiVersion: SECURITY,
  kind: 'PeerAuthentication',
  metadata: { namespace: PASSING, name: 'strict' },
  spec: { mtls: { mode: 'STRICT' } },
}

await t.test('a namespace goes under traffic', { skip: missingCluster('nodes') }, async (t) => {
  const { lab } = openCluster(t, async ({ kubectl }) => {
    const names = [NAMESPACE, PASSING, OUTSIDE]
    await kubectl('delete', 'namespace', ...names, '--ignore-not-found', TIMEOUT)
  })
  await installMesh(lab)
  const clients = ['client', STRANGER]
  const items = [...lifeObjects(), ...clientObjects(STRANGER), ...outsideObjects()]
  await startApplication(lab, items, clients)
  const url = await startPassing(lab)
  for (const policy of [NO_STRANGER, STRICT]) {
    await lab.apply(policy)
    const name = `${policy.kind.toLowerCase()}/${policy.metadata.name}`
    await lab.kubectl('wait', '-n', PASSING, name, '--for=condition=Enforced', TIMEOUT)
  }

  await t.test('its policies and its pods hold until it is gone', async (t) => {
    const start = async (from: string, to?: string): Promise<Running<LoadReport>> =>
      await startSample<LoadReport>(lab, from, 'load.ts', to)
    const served = {
      'who has nothing to do with it': await start(`${NAMESPACE}/client`),
      'who calls into it': await start(`${NAMESPACE}/client`, url),
      'its own pod, calling out': await start(`${PASSING}/client`),
    }
    const kept = {
      'the stranger': await start(`${NAMESPACE}/${STRANGER}`, url),
      plaintext: await start(`${OUTSIDE}/client`, url),
    }
    const startMs = performance.now()
    await lab.kubectl('delete', 'namespace', PASSING, '--wait=false')
    while ((await endingOf(lab)).length < PODS.length);
    // Kubernetes before 1.33 deletes them while pods are ending; later ones keep them that long.
    await lab.kubectl('delete', '-n', PASSING, 'authorizationpolicies,peerauthentications', '--all')
    // So many calls more of each kind, without them.
    const reports: (readonly [string, LoadReport])[] = []
    for (const [who, load] of Object.entries({ ...served, ...kept })) {
      await load.phase('without policies')
      reports.push([who, await load.finish()])
    }
    t.strictSame(await endingOf(lab), ['client', 'server'], 'its pods are still there')
    for (const [who, report] of reports) {
      t.comment(`${who}: ${tellOf(report)}`)
      if (who in served) t.equal(report.failed, 0, `${who}: ${tellOf(report)}`)
      else t.equal(report.failed, report.calls, `${who} is never served, in ${report.calls} calls`)
    }
    await lab.kubectl('delete', 'pods', '-n', PASSING, '--all', '--grace-period=1', '--wait=false')
    await lab.kubectl('wait', `namespace/${PASSING}`, '--for=delete', TIMEOUT)
    t.comment(`gone after ${((performance.now() - startMs) / 1000).toFixed(1)} s`)
  })

  await t.test('another one of that name has none of its policies', async (t) => {
    const next = await startPassing(lab)
    for (const pod of [`${NAMESPACE}/${STRANGER}`, `${OUTSIDE}/client`])
      t.equal(await statusOf(lab, pod, next), '200', pod)
  })
})

function namespace(name: string, labels: object = {}): object {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }
}

function outsideObjects(): readonly object[] {
  return [namespace(OUTSIDE), ...clientObjects('client', OUTSIDE)]
}

/** Makes the namespace with a client and a server that hold out; gives the server's address. */
async function startPassing(lab: DemoLab): Promise<string> {
  const pod = (name: string, command: readonly string[]): object => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: PASSING, name, labels: { app: name } },
    spec: {
      terminationGracePeriodSeconds: GRACE_S,
      containers: [{ name: 'app', image, command }],
    },
  })
  const items = [
    namespace(PASSING, { 'istio.io/dataplane-mode': 'ambient' }),
    // The first process of a container hears no SIGTERM that it has no handler for.
    pod('client', ['sleep', 'infinity']),
    pod('server', ['sh', '-c', STUBBORN]),
  ]
  await lab.apply({ apiVersion: 'v1', kind: 'List', items })
  await lab.kubectl('wait', '-n', PASSING, 'pod', '--all', '--for=condition=Ready', TIMEOUT)
  await untilCaptured(lab, PASSING)
  const field = 'jsonpath={.status.podIP}'
  const host = await lab.kubectl('get', 'pod', '-n', PASSING, 'server', '-o', field)
  return `http://${formatHostPort({ host, port: PORT })}/`
}

/** Its pods that have been told to end and have not. */
async function endingOf({ kubectl }: DemoLab): Promise<readonly string[]> {
  const said = await kubectl('get', 'pods', '-n', PASSING, '-o', 'json')
  const { items } = JSON.parse(said) as {
    readonly items: readonly {
      readonly metadata: { readonly name: string; readonly deletionTimestamp?: string }
    }[]
  }
  return items
    .filter(({ metadata }) => metadata.deletionTimestamp !== undefined)
    .map(({ metadata }) => metadata.name)
    .toSorted()
}

/** The status of an answer, 000 where there is none. */
async function statusOf(lab: DemoLab, pod: string, url: string): Promise<string> {
  const curl = 'curl -sS -o /dev/null -w "%{http_code}" -m 20 "$0" || true'
  return await lab.exec(pod, 'sh', '-c', curl, url)
}
