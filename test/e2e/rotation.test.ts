// SPDX-License-Identifier: Apache-2.0
// Given a mesh with the root that it made for itself and pods that call one another, when an operator plugs in an authority of
// their own in the three steps of docs/operations.md, then no call fails at any of them, nothing is restarted, and a
// certificate of the old root gets no tunnel at the end.

import t from 'tap'
import { X509Certificate } from 'node:crypto'
import type { Lab } from '../../lab/cluster/index.ts'
import { missing } from '../helpers.ts'
import { makeCa, plugIn, type TestCa } from '../identity/pki.ts'
import type { AuthorityPem } from '../../mesh/identity/authority.ts'
import { TCP_PORTS } from './programs/ports.ts'
import type { Steady } from './programs/steady.ts'
import type { Outcome } from './programs/stranger.ts'
import { certificateOf, rootOfLab } from './support/impostors.ts'
import { applyAll, linesWhere, meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import {
  namespaceManifest,
  podAddress,
  type Running,
  serverManifest,
  start,
} from './support/pods.ts'

const skip = missing(...NEEDS)
const HELD = 4
const ROUNDS = 20
const IDENTITY = 'spiffe://cluster.local/ns/mesh/sa/default'
/** The kubelet of the lab, the agents' look at their roots, and at most four seconds before they renew; on a busy machine. */
const STEP_DEADLINE_MS = 60_000

const NEW_ROOT = 'corporate root'

/** What a pod shows at its HBONE port. */
interface Shown {
  readonly leaf: X509Certificate
  /** Whether it asks callers for a certificate of that root, among others. */
  readonly trustsNewRoot: boolean
}

async function shownBy(lab: Lab, pod: string): Promise<Shown> {
  const host = await podAddress(lab, pod, 4)
  const { stdout } = await lab.exec('outside/stranger', [
    ...['timeout', '5', 'openssl', 's_client', '-connect', `${host}:15008`, '-alpn', 'h2'],
    ...['-showcerts'],
  ])
  const [pem] = stdout.match(/-----BEGIN CERTIFICATE-----[^]+?-----END CERTIFICATE-----/) ?? []
  const [roots] = stdout.match(/Acceptable client certificate CA names[^]+?Requested/) ?? []
  if (pem === undefined || roots === undefined)
    throw new Error(`no certificate of ${pod}, or no word of whom it believes: ${stdout}`)
  return { leaf: new X509Certificate(pem), trustsNewRoot: roots.includes(NEW_ROOT) }
}

async function putSecret(lab: Lab, name: string, pem: Partial<AuthorityPem>): Promise<void> {
  const fields = {
    'ca-cert.pem': pem.certificatePem,
    'ca-key.pem': pem.privateKeyPem,
    'cert-chain.pem': pem.chainPem,
    'root-cert.pem': pem.rootsPem,
  }
  const data = Object.fromEntries(
    Object.entries(fields).flatMap(([field, text]) =>
      text === undefined ? [] : [[field, Buffer.from(text).toString('base64')]],
    ),
  )
  const exists =
    (await lab.tryKubectl('get', 'secret', '--namespace=ambit-system', name)).code === 0
  const metadata = { name, namespace: 'ambit-system' }
  if (!exists)
    return lab.apply(JSON.stringify({ apiVersion: 'v1', kind: 'Secret', metadata, data }))
  const patch = JSON.stringify({ data })
  await lab.kubectl(
    ...['patch', 'secret', '--namespace=ambit-system', name, '--type=merge', `--patch=${patch}`],
  )
}

await t.test('a root is replaced while pods call one another', { skip }, async (t) => {
  const lab = await meshLab(t)
  const items = [
    namespaceManifest('mesh'),
    namespaceManifest('outside', false),
    serverManifest({ namespace: 'mesh', name: 'client', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'far', node: 'node-b' }),
    serverManifest({
      ...{ namespace: 'outside', name: 'stranger', node: 'node-a' },
      command: ['sleep', '1000'],
    }),
  ]
  await applyAll(lab, items)
  await lab.waitForPods()
  await waitForCapture(lab, 'mesh', true)
  const own = await rootOfLab(lab)
  const root = await makeCa(NEW_ROOT, { kind: 'RSA-2048' })
  const issuer = await makeCa('mesh issuer', { kind: 'RSA-2048', parent: root })
  const far = await podAddress(lab, 'mesh/far', 4)

  const traffic = async (): Promise<Running<Steady>> => {
    const started = start<Steady>(lab, 'mesh/client', 'steady', far, TCP_PORTS.echo, HELD, ROUNDS)
    t.teardown(() => started.child.kill('SIGKILL'))
    await started.said('steady')
    return started
  }
  const goesOn = async (running: Running<Steady>, step: string): Promise<void> => {
    running.child.stdin?.write(`${step}\n`)
    await running.said(`done ${step}`)
  }
  const times: string[] = []
  /** Does something, and waits until both pods show a certificate made since, as the predicate says. */
  const step = async (
    what: string,
    act: () => Promise<void>,
    isRight: (leaf: X509Certificate) => boolean,
  ): Promise<void> => {
    const pods = ['mesh/client', 'mesh/far']
    const at = (): string => new Date().toISOString()
    times.push(`${at()} ${what}: begins`)
    const before = new Set<string>()
    for (const pod of pods) before.add((await shownBy(lab, pod)).leaf.serialNumber)
    await act()
    for (const pod of pods) {
      await lab.waitFor(
        `${what}: a new certificate of ${pod}`,
        async () => {
          const { leaf, trustsNewRoot } = await shownBy(lab, pod)
          // One that was renewed for another reason, just before, may believe as before.
          const isSince = !before.has(leaf.serialNumber) && trustsNewRoot
          return isSince && isRight(leaf) ? true : undefined
        },
        STEP_DEADLINE_MS,
      )
      times.push(`${at()} ${what}: ${pod} has its certificate`)
    }
  }
  /** So that a failure explains itself: which connection ended when, by what, and what had been done then. */
  const tell = (told: Steady): void => {
    t.comment(`${told.heldWords} words, ${told.opened} new connections`)
    const failures = [...told.heldFailures, ...told.openFailures]
    if (failures.length > 0) t.comment([...times, ...failures].join('\n'))
  }
  const isOwn = (leaf: X509Certificate): boolean =>
    leaf.checkIssued(new X509Certificate(own.issuerPem))
  const isNew = (leaf: X509Certificate): boolean => leaf.issuer === 'O=mesh issuer'
  const withRoots = (roots: string): AuthorityPem => ({
    ...plugIn(issuer, [root]),
    rootsPem: roots,
  })
  const pemOf = ({ pem }: TestCa): string => pem

  const early = await traffic()
  await step(
    'both roots are trusted',
    () => putSecret(lab, 'ambit-ca-secret', { rootsPem: own.issuerPem + pemOf(root) }),
    isOwn,
  )
  await goesOn(early, 'overlap')
  await step(
    'the new authority signs',
    () => putSecret(lab, 'cacerts', withRoots(own.issuerPem + pemOf(root))),
    isNew,
  )
  await goesOn(early, 'issuer')
  const late = await traffic()
  const toldEarly = await early.finish('SIGTERM')
  tell(toldEarly)
  t.strictSame(toldEarly.heldFailures, [], 'what was open lives on while both roots are trusted')
  t.strictSame(toldEarly.openFailures, [], 'every new connection succeeds')

  await step('the old root is gone', () => putSecret(lab, 'cacerts', withRoots(pemOf(root))), isNew)
  await goesOn(late, 'gone')
  const toldLate = await late.finish('SIGTERM')
  tell(toldLate)
  t.strictSame(toldLate.heldFailures, [], 'what was opened since the new authority signs lives on')
  t.strictSame(toldLate.openFailures, [], 'every new connection succeeds')

  const rogue = await certificateOf(own, IDENTITY)
  const knock = {
    kind: 'request',
    host: far,
    method: 'CONNECT',
    authority: `${far}:${TCP_PORTS.echo}`,
  }
  const trusting = { ...rogue, roots: rogue.roots + pemOf(root) }
  const { stdout } = await lab.exec('outside/stranger', ['node', 'test/e2e/programs/stranger.ts'], {
    input: JSON.stringify([{ ...knock, certificate: trusting }]),
  })
  const [outcome] = JSON.parse(stdout) as readonly Outcome[]
  t.equal(outcome?.status, undefined, 'a certificate of the old root gets no tunnel')
  t.type(outcome?.error, 'string')
  await linesWhere(
    lab,
    'node-b',
    'the access line of the refusal',
    (line) => line.direction === 'inbound' && /root|signed|issuer/.test(String(line.error)),
  )
  t.pass('and the log says why')
  const restarts = await lab.kubectl(
    ...['get', 'pods', '--namespace=ambit-system'],
    '--output=jsonpath={.items[*].status.containerStatuses[*].restartCount}',
  )
  t.notMatch(restarts, /[1-9]/, 'nothing was restarted')
})
