// SPDX-License-Identifier: Apache-2.0
// An operator looks into the mesh: every command against a lab, by its name and by its kubeconfig, in all formats, from a saved dump,
// and with one agent gone. And a pod tries to look, too.

import t from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { tryCommand } from '../../lab/machine/command.ts'
import { missing } from '../helpers.ts'
import { noBrowser, openPage } from '../support/browser.ts'
import { until } from '../support/until.ts'
import { agentOf, meshLab, NEEDS, waitForCapture } from './support/mesh-lab.ts'

const skip = missing(...NEEDS)
const SHOP = fileURLToPath(new URL('../../lab/samples/shop.yaml', import.meta.url))
const AMBIT = fileURLToPath(new URL('../../cli/bin/ambit', import.meta.url))
const UNWILLING = `
apiVersion: v1
kind: Pod
metadata: { name: unwilling, namespace: shop, labels: { istio.io/dataplane-mode: none } }
spec:
  nodeName: node-a
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: host
      command: [node, -e, "require('node:net').createServer().listen(15008, '0.0.0.0')"]
      readinessProbe: { tcpSocket: { port: 15008 }, periodSeconds: 1 }
`

await t.test('given the shop in the mesh on two nodes', { skip }, async (t) => {
  const lab = await meshLab(t, [SHOP])
  const directory = mkdtempSync(join(tmpdir(), 'ambit-sight-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const ambit = (...args: readonly string[]) =>
    tryCommand([AMBIT, ...args], { env: { ...process.env, KUBECONFIG: lab.kubeconfig } })
  const json = async (...args: readonly string[]): Promise<unknown> => {
    const { code, stdout, stderr } = await ambit(...args, '-o', 'json')
    if (code !== 0) throw new Error(`ambit ${args.join(' ')}: ${stderr}`)
    return JSON.parse(stdout)
  }
  await lab.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient')
  await waitForCapture(lab, 'shop', true)

  await t.test('status says that all is well, by name and through the API server', async (t) => {
    // Agents annotate their pods, and hear from the controller what has become of that.
    await until(async () => (await ambit('status')).code === 0, 'all to be in step', 20_000)
    for (const way of [
      ['--name', lab.name],
      ['--kubeconfig', lab.kubeconfig],
    ]) {
      const { code, stdout, stderr } = await ambit('status', ...way)
      t.strictSame([code, stderr], [0, ''])
      t.match(stdout, /^controller +node-\w +ambit-controller-\S+ +\S+ +leader$/m)
      for (const node of lab.nodes) t.match(stdout, new RegExp(`^agent +${node} .* in step$`, 'm'))
    }
    t.match(await json('status'), { isWell: true, pods: [], nodes: [{ node: 'node-a' }, {}] })
  })

  await t.test('workloads, services, policies, certificates: tables and data', async (t) => {
    const workloads = await ambit('workloads', '-n', 'shop')
    t.match(workloads.stdout, /^NAMESPACE +POD NAME +ADDRESS +NODE +WAYPOINT +PROTOCOL\n/)
    t.match(workloads.stdout, /^shop +frontend +10\.\S+ +node-a +None +HBONE$/m)
    t.match(await json('workloads', '--workload-namespace', 'shop'), [
      { name: 'catalog-v1', protocol: 'HBONE' },
      { name: 'catalog-v2' },
      { name: 'frontend' },
    ])
    const services = await ambit('services', '-n', 'shop', '-o', 'yaml')
    t.match(parse(services.stdout), [{ name: 'catalog', ports: { 80: 8080 } }, {}])
    t.match((await ambit('services')).stdout, /^shop +catalog +\S+ +None +2\/2$/m)
    t.strictSame(await json('policies', '-n', 'shop'), [])
    const certificates = (await ambit('certs')).stdout
    t.match(certificates, /sa\/frontend +Leaf +Available +true +[0-9a-f]{20,} /)
    t.match(certificates, /sa\/frontend +Root +Available +true /)
    t.notMatch(JSON.stringify(await json('certs', '--node', 'node-a')), /sa\/catalog/)
  })

  await t.test('an open connection is shown at both its ends, until it ends', async (t) => {
    const connect = "require('node:net').connect(80, 'catalog.shop').resume()"
    const child = lab.spawn('shop/frontend', ['node', '-e', connect])
    t.teardown(() => child.kill('SIGKILL'))
    let rows = ''
    await until(
      async () => {
        rows = (await ambit('connections', '-n', 'shop')).stdout
        return /Inbound/.test(rows) && /Outbound/.test(rows)
      },
      () => `both ends: ${rows}`,
      20_000,
    )
    t.match(rows, /^frontend\.shop +Outbound +\S+ +catalog-v\d\.shop:15008 +\S+ +HBONE$/m)
    t.match(rows, /^catalog-v\d\.shop +Inbound +\S+ +frontend\.shop:\d+ +\S+ +HBONE$/m)
    t.notMatch((await ambit('connections', '--direction', 'inbound')).stdout, /Outbound/)
    child.kill('SIGKILL')
    await once(child, 'close')
  })

  await t.test('a saved dump is read instead of the cluster', async (t) => {
    t.match(await ambit('config-dump'), { code: 2, stderr: /name its --node \(node-a, node-b\)/ })
    const { stdout } = await ambit('config-dump', '--node', 'node-b')
    t.notMatch(stdout, /PRIVATE/)
    const file = join(directory, 'dump.json')
    writeFileSync(file, stdout)
    const elsewhere = { ...process.env, KUBECONFIG: '/nonexistent' }
    const read = await tryCommand([AMBIT, 'services', '-f', file], { env: elsewhere })
    t.match(read, { code: 0, stdout: /^shop +catalog /m })
    writeFileSync(file, '{"workloads": 1}')
    t.match(await ambit('workloads', '-f', file), { code: 1, stderr: /workloads is not a list/ })
  })

  await t.test('one part of all agents is made louder, and the log shows it', async (t) => {
    t.match(await ambit('logs', '--level', 'enrolment:debug'), {
      code: 0,
      stdout: /^enrolment +debug +debug$/m,
    })
    await lab.kubectl('label', 'pod', '--namespace=shop', 'frontend', 'look=again')
    await until(
      async () => (await ambit('logs', '--part', 'enrolment', '--grep', 'looked')).stdout !== '',
      'a line of that level',
      20_000,
    )
    t.match(await ambit('logs', '--reset'), { code: 0, stdout: /^enrolment +info +info$/m })
    t.match(await ambit('logs', '--level', 'loud'), { code: 1, stderr: /"loud" is no level/ })
  })

  await t.test('--watch shows what has changed, and ends in order', async (t) => {
    const child = spawn(
      AMBIT,
      ['services', '--watch', '--service-namespace', 'later', '--name', lab.name],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    t.teardown(() => child.kill('SIGKILL'))
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    await until(() => said.includes('NAMESPACE'), 'the first table', 20_000)
    await lab.kubectl('create', 'namespace', 'later')
    await lab.kubectl('create', 'service', 'clusterip', 'novelty', '--namespace=later', '--tcp=80')
    await until(
      () => /^later +novelty /m.test(said),
      () => `the news: ${said}`,
      20_000,
    )
    child.kill('SIGINT')
    t.strictSame(await once(child, 'close'), [0, null])
  })

  await t.test('a pod that cannot be enrolled is named with its reason', async () => {
    // An app that had the mesh's port before the mesh came.
    await lab.apply(UNWILLING)
    await lab.waitForPods('shop')
    await lab.kubectl('label', 'pod', '-n', 'shop', 'unwilling', 'istio.io/dataplane-mode-')
    await until(
      async () => {
        const { code, stdout } = await ambit('status')
        return code === 1 && /^node-a +shop\/unwilling +failed +.*15008/m.test(stdout)
      },
      'the reason',
      30_000,
    )
    await lab.kubectl('delete', 'pod', '--namespace=shop', 'unwilling', '--wait=true')
  })

  await t.test('no pod reaches the admin API, nor does a page in a browser', async (t) => {
    const nodeAddress = await lab.kubectl(
      'get',
      'node',
      'node-a',
      '--output=jsonpath={.status.addresses[?(@.type=="InternalIP")].address}',
    )
    for (const where of [nodeAddress, '127.0.0.1', '[::1]']) {
      const { code, stdout } = await lab.exec('shop/frontend', [
        ...['curl', '--silent', '--max-time', '5', `http://${where}:15000/config_dump`],
      ])
      t.not(code, 0, where)
      t.equal(stdout, '')
    }
    const rebound = await lab.nodeExec('node-a', [
      ...['curl', '--silent', '--write-out', '%{http_code}', '--header', 'Host: attacker.example'],
      'http://127.0.0.1:15000/config_dump',
    ])
    t.match(rebound.stdout, /403$/)
  })

  await t.test('the dashboard shows who calls whom', { skip: noBrowser() }, async (t) => {
    const child = spawn(AMBIT, ['dashboard', '--no-open', '--kubeconfig', lab.kubeconfig], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => child.kill('SIGKILL'))
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    await until(() => said.includes('Ctrl-C'), 'the URL', 20_000)
    const { page, errors } = await openPage(t)
    const loaded = await page.goto(/http:\S+/.exec(said)?.[0] ?? '')
    t.equal(loaded?.status(), 200)
    t.notMatch(page.url(), /token/)
    await page.locator('[data-id="shop/frontend"]').waitFor()
    await lab.exec('shop/frontend', ['curl', '--silent', '--fail', 'http://catalog.shop/'])
    // By the agents' counters, at the next look.
    await page.locator('.edge.mutual_tls').first().waitFor({ state: 'attached' })
    await page.locator('[data-id="shop/frontend"]').click()
    await page.getByRole('link', { name: 'Policies, denials, certificate' }).click()
    await page.getByRole('heading', { name: /^Certificates/ }).waitFor()
    const text = (await page.locator('main').textContent()) ?? ''
    t.match(text, /spiffe:\/\/cluster\.local\/ns\/shop\/sa\/frontend/)
    t.match(text, /None: every call is let in/)
    t.match(text, /shop\/frontend node-ain the mesh/)
    await page.locator('nav a').nth(3).click()
    await page.getByRole('heading', { name: /^Agents/ }).waitFor()
    t.match(await page.locator('main').textContent(), /node-aambit-agent-.*ready.*node-b/)
    t.strictSame(errors, [])
    child.kill('SIGINT')
    t.strictSame(await once(child, 'close'), [0, null])
  })

  await t.test('with one agent gone it is named, and the rest is shown', async (t) => {
    const [, agent = ''] = (await agentOf(lab, 'node-b')).split('/')
    // It stays in the API, and answers nobody.
    const pid = lab.pod(`ambit-system/${agent}`).containers[0]?.process?.pid ?? 0
    process.kill(pid, 'SIGSTOP')
    t.teardown(() => process.kill(pid, 'SIGCONT'))
    const [certs, workloads] = await Promise.all([ambit('certs'), ambit('workloads')])
    process.kill(pid, 'SIGCONT')
    t.equal(certs.code, 1)
    t.match(certs.stdout, /sa\/frontend/)
    t.match(
      certs.stderr,
      /^ambit: Cannot ask the agent on node-b \(ambit-agent-\S+\): .*\[AMB_AGENT_UNREACHABLE\]\n$/,
    )
    t.match(workloads, { code: 0, stdout: /frontend/ }, 'one answers for all')
  })
})
