// SPDX-License-Identifier: Apache-2.0
// What routes can ask of a waypoint beyond leading and splitting, by what docs/waypoints.md prints, with curl in the shop's frontend.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { makeCertificate, makeRoot } from '../hbone/certs.ts'
import { missing } from '../helpers.ts'
import type { TlsAnswer } from './programs/tls-app.ts'
import { meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'
import { podAddress, serverManifest } from './support/pods.ts'
import {
  type Answer,
  answers,
  asPrinted,
  CATALOG,
  ofV2,
  printed,
  SHOP,
  tryAmbit,
  until,
} from './support/waypoint-guide.ts'

await t.test('a shop behind a waypoint', { skip: missing(...NEEDS) }, async (t) => {
  const lab = await meshLab(t, [SHOP])
  await asPrinted(lab, 'kubectl label namespace shop istio.io/dataplane-mode=ambient')
  await waitForCapture(lab, 'shop', true)
  await asPrinted(lab, 'ambit waypoint apply -n shop --enroll-namespace --wait')
  await lab.apply(printed('versions'))
  const { app, authority, rootFile } = await tlsApp(t)

  await t.test('has all calls answered by v1 and copied to v2', async (t) => {
    await lab.apply(printed('mirror'))
    await until(lab, 'v1 to have all calls', async () => ofV2(await answers(lab, 20)) === 0)
    t.equal(ofV2(await answers(lab, 1, '-G', '-d', 'copied=1')), 0, 'v1 answers')
    await until(lab, 'the copy to arrive', () =>
      Promise.resolve(lab.log('shop/catalog-v2').includes('copied=1')),
    )
    t.ok(lab.log('shop/catalog-v1').includes('copied=1'), 'both have seen it')
  })

  await t.test('leads a user by a cookie', async (t) => {
    await lab.apply(printed('by-user'))
    const tester = ['-b', 'a=b; user=tester; c=d']
    await until(
      lab,
      'the tester to be led',
      async () => ofV2(await answers(lab, 5, ...tester)) === 5,
    )
    t.equal(ofV2(await answers(lab, 10, '-b', 'user=testers')), 0, 'nobody else is')
    t.equal(ofV2(await answers(lab, 10)), 0)
  })

  await t.test('is asked again where it fails, and not waited for without end', async (t) => {
    const status = async (path: string): Promise<string> => {
      const flags = ['-s', '-o', '/dev/null', '-m', '5', '-w', '%{http_code} ']
      const { stdout } = await lab.exec('shop/frontend', ['curl', ...flags, `${CATALOG}${path}`])
      return stdout.trim()
    }
    t.match(await status('flaky?[1-4]'), /503/, 'without a route for it the client sees it')
    await lab.apply(printed('retry'))
    await until(lab, 'the route to count', async () => (await status('slow')) === '504')
    t.equal(await status('flaky?[1-6]'), Array.from({ length: 6 }, () => '200').join(' '))
  })

  await t.test('has clients that keep cookies come back to the version they had', async (t) => {
    await lab.apply(printed('stay'))
    const isBoth = (all: readonly Answer[]): boolean => ofV2(all) > 0 && ofV2(all) < all.length
    await until(lab, 'both to have calls', async () => isBoth(await answers(lab, 30)))
    const seen = new Set<string>()
    // Of as many browsers each sees one version, and hardly all of them the same one: once in half a million runs.
    for (let browser = 0; browser < 20; browser += 1) {
      const versions = new Set((await answers(lab, 10, '-b', '')).map(({ version }) => version))
      t.equal(versions.size, 1, 'one browser, one version')
      for (const version of versions) seen.add(version)
    }
    t.equal(seen.size, 2)
  })

  await t.test('has its connections led by a TCPRoute', async (t) => {
    await lab.kubectl('delete', 'httproute', '-n', 'shop', 'catalog')
    await lab.apply(printed('tcp'))
    await until(lab, 'v2 to have them', async () => ofV2(await answers(lab, 20)) === 20)
    const route = ['get', 'tcproute', '-n', 'shop', 'catalog', '-o', 'yaml'] as const
    await until(lab, 'its status to say so', async () =>
      (await lab.kubectl(...route)).includes('ResolvedWaypoints'),
    )
    t.pass('and its status says so')
  })

  await t.test('speaks TLS to an app that wants it, and says why where it cannot', async (t) => {
    await lab.kubectl('delete', 'pod', '-n', 'shop', 'catalog-v2')
    await lab.apply(JSON.stringify(app))
    await lab.waitForPods('shop')
    const call = async (): Promise<string> => {
      const curl = ['curl', '-s', '-m', '20', '-w', '\n%{http_code}', 'http://catalog-v2.shop/']
      return (await lab.exec('shop/frontend', curl)).stdout
    }
    await lab.apply(printed('backend-tls'))
    await until(lab, 'nobody to be trusted', async () => (await call()).endsWith('\n503'))
    const why = async (): Promise<string> =>
      (await tryAmbit(lab, 'why', 'shop/frontend', 'shop/catalog-v2:80')).stdout
    await until(lab, 'why to say so', async () =>
      /STOP\] tls .*catalog-authority/.test(await why()),
    )
    t.match(await why(), /decided by BackendTLSPolicy shop\/catalog-v2/)
    const { stdout: findings } = await tryAmbit(lab, 'analyze', '-n', 'shop')
    t.match(findings, /AMB113/)

    await lab.apply(JSON.stringify(authority))
    await until(lab, 'the authority to count', async () => (await call()).endsWith('\n200'))
    const { serverName, client } = JSON.parse(await call().then(firstLine)) as TlsAnswer
    t.equal(serverName, 'catalog.example', 'it was asked for by the name that the policy says')
    const own = [
      await podAddress(lab, 'shop/frontend', 4),
      await podAddress(lab, 'shop/frontend', 6),
    ]
    t.ok(own.includes(client), `and saw its client, ${client}`)
    t.match(await why(), /ok {2}\] tls .*catalog\.example/)
  })

  await t.test('leads clients of TLS by the name that they ask for', async (t) => {
    await lab.apply(printed('sni'))
    /** What a client of TLS that asks the Service for this name is told by curl; it has its TLS with the app itself. */
    const ask = async (name: string, calls = 1) => {
      const to = ['--cacert', rootFile, '--connect-to', `${name}:443:secure.shop:443`]
      const flags = ['-sS', '-m', '20', '-H', 'connection: close', '--fail-early']
      const url = `https://${name}/?[1-${calls}]`
      return await lab.exec('shop/frontend', ['curl', ...flags, ...to, url])
    }
    // The other version speaks no TLS: whoever comes to it has no answer.
    await until(
      lab,
      'the route to count',
      async () => (await ask('catalog.example', 10)).code === 0,
    )
    const { stdout } = await ask('catalog.example', 20)
    const served = stdout.trim().split('\n')
    t.equal(served.length, 20)
    for (const each of served)
      t.equal((JSON.parse(each) as TlsAnswer).serverName, 'catalog.example')
    t.match(await ask('other.example'), { code: 35 }, 'no route takes it')
    const why = async (name: string): Promise<string> =>
      (await tryAmbit(lab, 'why', 'shop/frontend', 'shop/secure:443', '--host', name)).stdout
    t.match(await why('catalog.example'), /TLSRoute shop\/secure/)
    t.match(await why('other.example'), /STOP\]/)
  })
})

function firstLine(text: string): string {
  return text.split('\n')[0] ?? ''
}

/** The catalog's second version as an app that speaks TLS alone, and the authority behind its certificate, as a ConfigMap and as a file. */
async function tlsApp(t: Test) {
  const root = await makeRoot()
  const names = [{ type: 'dns', value: 'catalog.example' }] as const
  const { chainPem, privateKeyPem } = await makeCertificate(root, 'none', { names })
  const folder = mkdtempSync(join(tmpdir(), 'ambit-tls-app-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const files = [join(folder, 'certificate.pem'), join(folder, 'key.pem')] as const
  writeFileSync(files[0], chainPem)
  writeFileSync(files[1], privateKeyPem)
  const rootFile = join(folder, 'root.pem')
  writeFileSync(rootFile, root.pem)
  return {
    rootFile,
    app: serverManifest({
      ...{ namespace: 'shop', name: 'catalog-v2', node: 'node-b' },
      labels: { app: 'catalog', version: 'v2' },
      command: ['node', 'test/e2e/programs/tls-app.ts', '8080', ...files],
    }),
    authority: {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace: 'shop', name: 'catalog-authority' },
      data: { 'ca.crt': root.pem },
    },
  }
}
