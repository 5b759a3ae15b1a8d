// SPDX-License-Identifier: Apache-2.0
// Certificates, seen from outside with another TLS implementation, and renewed again and again while traffic flows.

import t from 'tap'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Lab } from '../../lab/cluster/index.ts'
import { missing } from '../helpers.ts'
import { TCP_PORTS } from './programs/ports.ts'
import type { Steady } from './programs/steady.ts'
import {
  type AccessLine,
  applyAll,
  linesWhere,
  meshLab,
  NEEDS,
  waitForCapture,
} from './support/mesh-lab.ts'
import {
  namespaceManifest,
  podAddress,
  run,
  serverManifest,
  serviceManifest,
  start,
} from './support/pods.ts'

const skip = missing(...NEEDS)
/** Certificates of a test are renewed every 4 to 5 seconds. Seconds. */
const TTL_S = 10
const RENEWALS = 2
const RENEWALS_DEADLINE_MS = 30_000
const HELD = 8
const ROUNDS = 40
const IDENTITY = 'spiffe://cluster.local/ns/mesh/sa/default'
const SERVER_AUTHENTICATION = '1.3.6.1.5.5.7.3.1'
const CLIENT_AUTHENTICATION = '1.3.6.1.5.5.7.3.2'
/** notBefore lies this far in the past, so that nodes with slow clocks accept a new certificate. Seconds. */
const BACKDATE_S = 600

/** What openssl says of a handshake with a pod's HBONE port, from a pod outside the mesh. */
async function handshake(lab: Lab, address: string, ...flags: readonly string[]): Promise<string> {
  const host = address.includes(':') ? `[${address}]` : address
  const { stdout, stderr } = await lab.exec(
    'outside/stranger',
    // Reads on after the handshake: what a server of TLS 1.3 thinks of its client comes after it.
    [
      ...['timeout', '5', 'openssl', 's_client', '-connect', `${host}:15008`, '-showcerts'],
      ...['-ign_eof', ...flags],
    ],
  )
  return stdout + stderr
}

/** The certificates that openssl printed, the leaf first. */
function certificatesIn(text: string): readonly X509Certificate[] {
  const pems = text.match(/-----BEGIN CERTIFICATE-----[^]+?-----END CERTIFICATE-----/g) ?? []
  return pems.map((pem) => new X509Certificate(pem))
}

/** How a private key looks: in PEM, and as PKCS #8 of P-256 (RFC 5208, RFC 5480), in base64 and in bytes. */
const KEY_FORMS = [
  Buffer.from('PRIVATE KEY-----'),
  Buffer.from('MIGHAgEAMBMGByqGSM49'),
  Buffer.from('308187020100301306072a8648ce3d0201', 'hex'),
]

/** The files of a lab in which something looks like one: logs, what agents remember, what the kubelets gave to pods. */
function filesWithKeys({ layout }: Lab): readonly string[] {
  return [layout.logsDir, layout.podsDir, join(layout.runDir, 'nodes')]
    .flatMap((directory) => readdirSync(directory, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => {
      // One that was only there for a moment is gone with whatever it held.
      const content = existsSync(file) ? readFileSync(file) : Buffer.alloc(0)
      return KEY_FORMS.some((form) => content.includes(form))
    })
}

await t.test('in a labelled namespace', { skip }, async (t) => {
  const lab = await meshLab(t)
  await applyAll(lab, [
    namespaceManifest('mesh'),
    namespaceManifest('outside', false),
    serverManifest({ namespace: 'mesh', name: 'client', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'near', node: 'node-a' }),
    serverManifest({ namespace: 'mesh', name: 'far', node: 'node-b' }),
    serverManifest({
      namespace: 'outside',
      name: 'stranger',
      node: 'node-a',
      command: ['sleep', '1000'],
    }),
    serviceManifest('mesh', 'far', { app: 'far' }),
  ])
  await lab.waitForPods()
  await waitForCapture(lab, 'mesh', true)
  const root = new X509Certificate(
    await lab.kubectl(
      'get',
      'configmap',
      '--namespace=mesh',
      'istio-ca-root-cert',
      '--output=jsonpath={.data.root-cert\\.pem}',
    ),
  )

  for (const family of [4, 6] as const) {
    await t.test(`a stranger's openssl sees the HBONE port by IPv${family}`, async (t) => {
      const address = await podAddress(lab, 'mesh/far', family)
      const said = await handshake(lab, address, '-alpn', 'h2')
      t.match(said, /New, TLSv1\.3, Cipher is TLS_/, 'TLS 1.3')
      t.match(said, /ALPN protocol: h2/, 'HTTP/2 by ALPN')
      t.match(
        said,
        /alert certificate required|SSL alert number 116/,
        'a client without a certificate is turned away',
      )
      const [leaf] = certificatesIn(said)
      if (leaf === undefined) throw new Error(`no certificate: ${said}`)
      t.equal(leaf.subjectAltName, `URI:${IDENTITY}`, 'its one name is the SPIFFE identity')
      t.equal(leaf.subject, undefined, 'the subject is empty: the name is the identity')
      t.equal(leaf.ca, false)
      t.strictSame(
        leaf.keyUsage.toSorted(),
        [SERVER_AUTHENTICATION, CLIENT_AUTHENTICATION],
        'it is for both ends of TLS',
      )
      t.equal(leaf.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1')
      t.ok(leaf.verify(root.publicKey), 'the published root signed it')
      const lifetime = (leaf.validToDate.getTime() - leaf.validFromDate.getTime()) / 1000
      t.equal(lifetime, 86_400 + BACKDATE_S, 'it lives a day')
      t.ok(leaf.validFromDate.getTime() < Date.now(), 'it is valid already')
    })
  }

  await t.test('older and other protocols are refused', async (t) => {
    const address = await podAddress(lab, 'mesh/far', 4)
    const old = await handshake(lab, address, '-tls1_2', '-alpn', 'h2')
    t.match(old, /protocol version|handshake failure/, 'TLS 1.2')
    t.strictSame(certificatesIn(old), [])
    const http1 = await handshake(lab, address, '-alpn', 'http/1.1')
    t.notMatch(http1, /ALPN protocol: http/, 'HTTP/1.1')
  })

  await t.test('certificates are renewed under traffic, and no new call notices', async (t) => {
    await lab.kubectl(
      'set',
      'env',
      '--namespace=ambit-system',
      'daemonset/ambit-agent',
      `SECRET_TTL=${TTL_S}s`,
    )
    await lab.kubectl(
      'rollout',
      'status',
      '--namespace=ambit-system',
      '--timeout=120s',
      'daemonset/ambit-agent',
    )
    await lab.waitForPods()
    const far = await podAddress(lab, 'mesh/far', 4)
    const leafNow = async (): Promise<X509Certificate | undefined> =>
      certificatesIn(await handshake(lab, far, '-alpn', 'h2'))[0]
    const first = await lab.waitFor('a short-lived certificate', async () => {
      const leaf = await leafNow()
      const isShort = leaf !== undefined && leaf.validToDate.getTime() < Date.now() + TTL_S * 1000
      return isShort ? leaf : undefined
    })
    const running = ['far', 'near'].map(async (name) => {
      const address = await podAddress(lab, `mesh/${name}`, 4)
      const started = start<Steady>(
        lab,
        'mesh/client',
        'steady',
        address,
        TCP_PORTS.echo,
        HELD,
        ROUNDS,
      )
      t.teardown(() => started.child.kill('SIGKILL'))
      await started.said('steady')
      return started
    })
    const steady = await Promise.all(running)
    // What is held was opened with this one, or one before it.
    const latest = (await leafNow()) ?? first
    const leaves = new Map([first, latest].map((leaf) => [leaf.serialNumber, leaf]))
    await lab.waitFor(
      `${RENEWALS} renewals and the end of what the held connections were opened with`,
      async () => {
        const askedAt = Date.now()
        const leaf = await leafNow()
        if (leaf === undefined) throw new Error('no certificate')
        t.ok(leaf.validToDate.getTime() > askedAt, 'no expired certificate was ever shown')
        leaves.set(leaf.serialNumber, leaf)
        const isOver = latest.validToDate.getTime() < Date.now()
        return leaves.size > RENEWALS && isOver ? true : undefined
      },
      RENEWALS_DEADLINE_MS,
    )
    const isCut = ({ error }: AccessLine): boolean =>
      String(error).startsWith('the certificates that the connection was opened with')
    await linesWhere(lab, 'node-a', 'a line of each that was cut', isCut, HELD)
    t.pass('what was opened with it is cut, and the log says why')
    const keys = new Set(
      [...leaves.values()].map((leaf) => leaf.publicKey.export({ type: 'spki', format: 'pem' })),
    )
    t.equal(keys.size, leaves.size, 'each has a key of its own')

    await lab.apply(
      JSON.stringify(serverManifest({ namespace: 'mesh', name: 'late', node: 'node-a' })),
    )
    await lab.waitForPods('mesh')
    await waitForCapture(lab, 'mesh', true)
    const late = await run<{ readonly ok: number; readonly failures: object }>(
      lab,
      'mesh/late',
      'crowd',
      far,
      TCP_PORTS.echo,
      10,
    )
    t.strictSame(late.failures, {}, 'a new pod makes its first handshakes with renewed ones')

    const [toFar, toNear] = await Promise.all(
      steady.map(async (each) => {
        each.child.stdin?.write('after\n')
        await each.said('done after')
        const told = await each.finish('SIGTERM')
        t.comment(`${told.heldWords} words, ${told.opened} new connections`)
        t.strictSame(told.openFailures, [], 'every new connection succeeds')
        return told
      }),
    )
    t.strictSame(
      toNear?.heldFailures,
      [],
      'on one node, without certificates, what is established lives on',
    )
    t.equal(
      toFar?.heldFailures.length,
      HELD,
      'between nodes it ends with the certificates that it was opened with',
    )
    const isLate = (line: AccessLine): boolean =>
      line['src.workload'] === 'late' && line['src.identity'] === IDENTITY
    await linesWhere(lab, 'node-b', 'lines of the pod that came late', isLate, 10)
    t.pass('and is authenticated')
  })

  await t.test('keys are neither on disk nor in a log, after all those renewals', (t) => {
    t.strictSame(filesWithKeys(lab), [])
    const planted = join(lab.layout.logsDir, 'planted')
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
    for (const content of [
      privateKey.export({ type: 'pkcs8', format: 'der' }),
      privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64'),
      privateKey.export({ type: 'pkcs8', format: 'pem' }),
    ]) {
      writeFileSync(planted, content)
      t.strictSame(filesWithKeys(lab), [planted], 'one would be found')
    }
    rmSync(planted)
    t.end()
  })
})
