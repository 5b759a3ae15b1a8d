// SPDX-License-Identifier: Apache-2.0
// Streams that outlast their waypoint's pod, by what docs/waypoints.md says of it: they go on through the pod that is leaving, whether another
// takes its place or the whole waypoint is deleted, and the pod goes with the last of them. And bodies that no memory holds.

import t, { type Test } from 'tap'
import type { Lab } from '../../lab/cluster/index.ts'
import { PODS } from '../../mesh/kube/index.ts'
import { missing } from '../helpers.ts'
import { WORD_PORTS } from './programs/ports.ts'
import type { StreamEnd, StreamKind } from './programs/words.ts'
import { forgetPeak, memoryOf, podPid } from './support/memory.ts'
import { applyAll, meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import { objectsIn } from './support/objects.ts'
import { type Running, serverManifest, start } from './support/pods.ts'
import { ambit, asPrinted, CATALOG, printed, SHOP, until } from './support/waypoint-guide.ts'

const KINDS = ['tcp', 'http1', 'http2'] as const satisfies readonly StreamKind[]
const WAYPOINT_PODS = 'gateway.networking.k8s.io/gateway-name=waypoint'
/** Long enough for a busy machine to start a waypoint. */
const ROLLED = '--timeout=120s'
const PATIENCE_MS = 120_000

/** More than anybody would hold, and what a waypoint may have more of for it. */
const LARGE_BYTES = 2 * 1024 ** 3
/** Eight times what the waypoint may grow by. */
const SLOW_BYTES = 512 * 1024 ** 2
const MOST_GROWN_MIB = 64
/** For each way: at 20 MiB a second, as on a machine with much else to do. */
const LARGE_MS = 120_000

const DELUGE = [
  serverManifest({
    ...{ namespace: 'shop', name: 'deluge', node: 'node-b' },
    command: ['node', 'test/e2e/programs/deluge.ts'],
  }),
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name: 'deluge' },
    spec: { selector: { app: 'deluge' }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
  },
] as const

/** An app that gives back what it hears, by each protocol. */
const WORDS = [
  serverManifest({
    ...{ namespace: 'shop', name: 'words', node: 'node-b' },
    command: ['node', 'test/e2e/programs/words.ts', 'serve'],
    spec: { terminationGracePeriodSeconds: 1 },
  }),
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name: 'words' },
    spec: {
      selector: { app: 'words' },
      ports: [
        { name: 'tcp', port: WORD_PORTS.tcp },
        { name: 'http', port: WORD_PORTS.http1 },
        { name: 'http2', port: WORD_PORTS.http2 },
      ],
    },
  },
] as const

type Stream = Running<StreamEnd>

/** One stream of each kind, on which a word has been said. */
async function streams(t: Test, lab: Lab): Promise<readonly Stream[]> {
  const open = KINDS.map((kind) =>
    start<StreamEnd>(lab, 'shop/frontend', 'words', 'hold', kind, 'words.shop'),
  )
  t.teardown(() => {
    for (const { child } of open) child.kill('SIGKILL')
  })
  await Promise.all(open.map((stream) => stream.said('heard first')))
  return open
}

/** A word that is said on each of them now comes back. */
async function stillHeard(open: readonly Stream[], word: string): Promise<void> {
  for (const { child } of open) child.stdin?.write(`say ${word}\n`)
  await Promise.all(open.map((stream) => stream.said(`heard ${word}`)))
}

/** Their clients end them, and nothing of them is missing. */
async function allWhole(t: Test, open: readonly Stream[]): Promise<void> {
  for (const { child } of open) child.stdin?.write('end\n')
  const ends = await Promise.all(open.map((stream) => stream.finish()))
  t.strictSame(
    ends.map(({ end }) => end),
    KINDS.map(() => 'whole'),
    KINDS.join(', '),
  )
}

await t.test('streams through a waypoint', { skip: missing(...NEEDS) }, async (t) => {
  const lab = await meshLab(t, [SHOP])
  await asPrinted(lab, 'kubectl label namespace shop istio.io/dataplane-mode=ambient')
  await applyAll(lab, [...WORDS, ...DELUGE])
  await waitForCapture(lab, 'shop', true)
  await lab.waitForPods('shop')
  await lab.apply(printed('patient'))
  await asPrinted(lab, 'ambit waypoint apply -n shop --enroll-namespace --wait')
  const isServed = async (): Promise<boolean> =>
    (await lab.exec('shop/frontend', ['curl', '-sf', '-m', '20', CATALOG])).code === 0
  await until(lab, 'calls to be served', isServed)

  const pods = async (): Promise<readonly string[]> =>
    (await objectsIn(lab, PODS, 'shop', WAYPOINT_PODS)).map(({ metadata }) => metadata?.name ?? '')
  const untilGone = async (which: readonly string[]): Promise<void> => {
    await lab.waitFor(
      `${which.join()} to go`,
      async () => ((await pods()).some((name) => which.includes(name)) ? undefined : true),
      PATIENCE_MS,
    )
  }

  await t.test('outlast the pod that carries them when it is replaced', async (t) => {
    const old = await pods()
    const open = await streams(t, lab)
    await lab.kubectl('rollout', 'restart', '-n', 'shop', 'deployment/waypoint')
    await lab.kubectl('rollout', 'status', '-n', 'shop', 'deployment/waypoint', ROLLED)
    await open[KINDS.indexOf('http2')]?.said('goaway')
    await stillHeard(open, 'later')
    t.ok(await isServed(), 'new calls are served beside them')
    t.strictSame(
      (await pods()).filter((name) => old.includes(name)),
      old,
      'the pod stays for them',
    )
    await allWhole(t, open)
    await untilGone(old)
  })

  await t.test(
    'carry a body of 2 GiB in 64 MiB, and a large one to whoever takes it slowly',
    async (t) => {
      const [pod = ''] = await pods()
      const pid = podPid(lab, `shop/${pod}`)
      const deluge = 'http://deluge.shop/'
      const sh = async (script: string): Promise<string> => {
        const { code, stdout, stderr } = await lab.exec('shop/frontend', ['sh', '-c', script], {
          timeoutMs: LARGE_MS,
        })
        t.equal(code, 0, stderr)
        return stdout
      }
      t.match(await sh(`curl -sSf ${deluge}1 | wc -c`), /^1$/m, 'it is served')
      const before = memoryOf(pid, 'VmRSS')
      forgetPeak(pid)
      const sent = `head -c ${LARGE_BYTES} /dev/zero | curl -sSf -X POST -T - -H Expect: ${deluge}`
      t.equal(await sh(sent), String(LARGE_BYTES), 'the app got all of it')
      const slow = `curl -sSf ${deluge}${SLOW_BYTES} | (sleep 2; wc -c)`
      t.equal((await sh(slow)).trim(), String(SLOW_BYTES), 'and so did the client')
      const grown = memoryOf(pid, 'VmHWM') - before
      t.ok(
        grown < MOST_GROWN_MIB,
        `${Math.round(grown)} MiB more than the ${Math.round(before)} before`,
      )
    },
  )

  await t.test('outlast their waypoint when it is deleted', async (t) => {
    const old = await pods()
    const open = await streams(t, lab)
    await ambit(lab, 'waypoint', 'delete', '-n', 'shop', 'waypoint')
    await until(lab, 'new calls to be refused', async () => !(await isServed()))
    await open[KINDS.indexOf('http2')]?.said('goaway')
    await stillHeard(open, 'later')
    await allWhole(t, open)
    await untilGone(old)
    t.pass('and it goes with the last of them')
  })
})
