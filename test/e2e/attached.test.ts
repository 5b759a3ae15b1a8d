// SPDX-License-Identifier: Apache-2.0
// A lab that stands against an API server which is not its own. Here that is the lab's API server run by the test,
// without controllers and with foreign objects in it; kube-apiserver.test.ts does the same against a true one.

import t, { type Test } from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type ApiServer, startApiServer } from '../../lab/kubernetes/own/apiserver/index.ts'
import { createLab, takeDown } from '../../lab/cluster/index.ts'
import { labLayout } from '../../lab/machine/layout.ts'
import { readState } from '../../lab/cluster/state.ts'
import { type CommandOutput, tryCommand } from '../../lab/machine/command.ts'
import { createKubeApi, type KubeApi, loadKubeConfig } from '../../mesh/kube/index.ts'
import { holdDemoChecks } from './support/demo.ts'
import { missing } from '../helpers.ts'
import { apiObjects } from './support/api-objects.ts'
import { NEEDS } from './support/mesh-lab.ts'

const skip = missing(...NEEDS)
const SHOP = fileURLToPath(new URL('../../lab/samples/shop.yaml', import.meta.url))
const AMBIT = fileURLToPath(new URL('../../cli/bin/ambit', import.meta.url))
const ONE_LINE_ERROR = /^ambit: [^\n]+\[AMB_\w+\]\n$/

async function ambit(...args: readonly string[]): Promise<CommandOutput> {
  return await tryCommand([AMBIT, 'lab', ...args], { timeoutMs: 90_000 })
}

interface Foreign {
  readonly server: ApiServer
  readonly kubeconfig: string
  readonly api: KubeApi
  /** Name for the one lab of this test. */
  readonly name: string
}

/** An API server with somebody else's objects in it: a node, a pod bound to that, a namespace with a ConfigMap. */
async function foreignServer(t: Test): Promise<Foreign> {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-attached-'))
  const name = `a${process.pid}`
  const server = await startApiServer({ serviceCidr4: '10.77.0.0/16', serviceCidr6: 'fd77::/112' })
  t.teardown(async () => {
    const { leftovers } = await takeDown(name)
    await server.close()
    rmSync(directory, { recursive: true, force: true })
    if (leftovers.length > 0) throw new Error(`left of lab ${name}: ${leftovers.join('; ')}`)
  })
  const { port } = await server.listen('127.0.0.1', 0)
  const kubeconfig = join(directory, 'kubeconfig')
  const text = server.kubeconfig({ server: `https://127.0.0.1:${port}`, name: 'foreign' })
  writeFileSync(kubeconfig, text, { mode: 0o600 })
  // As a true API server does; nobody can reach it by this address (RFC 5737).
  server.api.create('endpointslices.discovery.k8s.io', 'default', {
    metadata: { name: 'kubernetes', labels: { 'kubernetes.io/service-name': 'kubernetes' } },
    addressType: 'IPv4',
    ports: [{ name: 'https', protocol: 'TCP', port }],
    endpoints: [{ addresses: ['192.0.2.1'], conditions: { ready: true } }],
  })
  server.api.create('nodes', undefined, {
    metadata: { name: 'worker' },
    // As in many clusters: just what a lab's pods have when it is alone.
    spec: { podCIDR: '10.244.0.0/24' },
    status: { conditions: [{ type: 'Ready', status: 'True' }] },
  })
  server.api.create('namespaces', undefined, { metadata: { name: 'theirs' } })
  server.api.create('configmaps', 'theirs', { metadata: { name: 'settings' }, data: { a: 'b' } })
  server.api.create('pods', 'theirs', {
    metadata: { name: 'app' },
    spec: {
      nodeName: 'worker',
      containers: [{ name: 'main', image: 'registry.test/app:1' }],
    },
  })
  const access = await loadKubeConfig({ kubeconfig })
  if (!access.ok) throw access.error
  return { server, kubeconfig, api: createKubeApi(access.value), name }
}

await t.test('given a cluster of somebody else', { skip }, async (t) => {
  const { server, kubeconfig, api, name } = await foreignServer(t)
  const before = await apiObjects(api)
  const theirPod = server.api.get('pods', 'theirs', 'app')
  const told: string[] = []
  const lab = await createLab({
    name,
    files: [SHOP],
    attach: { kubeconfig, taint: false },
    report: (line) => told.push(line),
  })

  await t.test('up says where the lab stands and what it runs there', (t) => {
    t.match(
      told.join('\n'),
      /API server: https:\/\/127\.0\.0\.1:\d+ \(context "foreign", Kubernetes v/,
    )
    t.match(told.join('\n'), "controllers: the lab's; scheduler: the lab's")
    t.equal(
      statSync(lab.kubeconfig).mode & 0o777,
      0o600,
      "the copy of the kubeconfig is root's alone",
    )
    t.equal(existsSync(join(lab.layout.runDir, 'api.sock')), true)
    t.equal(statSync(join(lab.layout.runDir, 'api.sock')).mode & 0o777, 0o600)
    t.end()
  })

  await holdDemoChecks(t, lab)

  await t.test(
    'pods reach the API server by its own service, with its own authority',
    async (t) => {
      const script = [
        'dir=/var/run/secrets/kubernetes.io/serviceaccount',
        'curl -sS --cacert $dir/ca.crt -H "Authorization: Bearer $(cat $dir/token)" https://kubernetes.default/api/v1/namespaces/theirs -o /dev/null -w "%{http_code} %{remote_ip}"',
      ].join('\n')
      const answer = await lab.exec('shop/frontend', ['sh', '-c', script])
      t.strictSame(answer, { code: 0, stdout: '200 10.77.0.1', stderr: '' })
    },
  )

  await t.test("what is not the lab's is left alone", async (t) => {
    t.strictSame(server.api.get('pods', 'theirs', 'app'), theirPod)
    const status = await ambit('status', '--name', name)
    t.match(status.stdout, /with mesh, nodes node-a, node-b, at https:/)
    const logs = [...Object.values(readState(lab.layout)?.processes ?? [])].map(({ role }) =>
      readFileSync(join(lab.layout.logsDir, `${role}.log`), 'utf8'),
    )
    t.notMatch(logs.join(''), server.adminToken, 'no log has the credentials')
    const state = readFileSync(lab.layout.stateFile, 'utf8')
    t.notMatch(state, server.adminToken)
  })

  await t.test('a second lab against it is refused, and nothing is begun', async (t) => {
    const second = `${name}b`
    const up = await ambit('up', '--name', second, '--kubeconfig', kubeconfig)
    t.equal(up.code, 1)
    t.match(up.stderr, ONE_LINE_ERROR)
    t.match(up.stderr, /node "node-a" of a lab named.*AMB_LAB_CLASH/)
    t.equal(existsSync(labLayout(second).runDir), false)
    const same = await ambit('up', '--name', name, '--kubeconfig', kubeconfig)
    t.match(same.stderr, /it is already there.*AMB_LAB_EXISTS/)
  })

  await t.test('down leaves the cluster as it was', async (t) => {
    // A person's own object stays, though its pod ran here.
    await lab.kubectl('create', 'configmap', 'mine', '-n', 'theirs')
    await lab.kubectl(
      'create',
      'deployment',
      'own',
      '-n',
      'theirs',
      '--image=host',
      '--',
      'sleep',
      '1000',
    )
    await lab.kubectl('wait', 'deployment/own', '-n', 'theirs', '--for=condition=Available')
    const down = await ambit('down', '--name', name)
    t.strictSame([down.code, down.stderr], [0, ''])
    t.match(down.stdout, /\d+ objects of its API server; nothing is left/)
    const after = (await apiObjects(api)).filter((each) => !/ReplicaSet theirs\/own-/.test(each))
    t.strictSame(after, [...before, 'ConfigMap theirs/mine', 'Deployment theirs/own'].toSorted())
    t.strictSame(server.api.get('pods', 'theirs', 'app'), theirPod)
  })
})

await t.test('an up that is cut short', { skip }, async (t) => {
  const { kubeconfig, api, name } = await foreignServer(t)
  const before = await apiObjects(api)
  /** Starts `lab up` and gives it a signal once it has said this. */
  const cut = async (words: string, signal: NodeJS.Signals): Promise<number | null> => {
    const child = spawn(
      AMBIT,
      ['lab', 'up', '--name', name, '--kubeconfig', kubeconfig, '-f', SHOP],
      {
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    )
    const exited = once(child, 'exit') as Promise<[number | null]>
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.includes(words)) child.kill(signal)
    })
    const [code] = await exited
    return code
  }

  await t.test('by Ctrl-C takes back what it made', async (t) => {
    t.equal(await cut('mesh: controller and agents', 'SIGINT'), 1)
    t.strictSame(await apiObjects(api), before)
    t.equal(existsSync(labLayout(name).runDir), false)
  })

  await t.test('by a kill leaves what down takes back', async (t) => {
    t.equal(await cut('Namespace shop applied', 'SIGKILL'), null)
    t.not((await apiObjects(api)).length, before.length)
    const down = await ambit('down', '--name', name)
    t.strictSame([down.code, down.stderr], [0, ''])
    t.strictSame(await apiObjects(api), before)
  })
})

await t.test('an API server that is gone', { skip }, async (t) => {
  const { server, kubeconfig, name } = await foreignServer(t)
  await createLab({ name, nodes: 1, mesh: false, attach: { kubeconfig } })
  const runId = readState(labLayout(name))?.attached?.runId ?? ''
  await server.close()
  const down = await ambit('down', '--name', name)
  t.equal(down.code, 1)
  t.match(down.stderr, ONE_LINE_ERROR)
  t.match(
    down.stderr,
    new RegExp(
      `still there .*kubectl delete nodes --all-namespaces -l lab\\.ambit\\.dev/run=${runId}`,
    ),
  )
  t.equal(existsSync(labLayout(name).runDir), false, 'the machine is clean')
  t.equal(existsSync(labLayout(name).cgroup), false)
})

await t.test('an API server that goes while the lab comes up', { skip }, async (t) => {
  const { server, kubeconfig, name } = await foreignServer(t)
  const gone = createLab({
    name,
    nodes: 1,
    attach: { kubeconfig },
    report: (line) => {
      if (line.startsWith('nodes:')) void server.close()
    },
  })
  await t.rejects(gone, { code: 'AMB_LAB', message: /still there .*kubectl delete nodes/ })
  t.equal(existsSync(labLayout(name).runDir), false, 'the machine is clean')
})

await t.test('flags that cannot be', async (t) => {
  for (const flags of [['--context', 'x'], ['--controllers', 'lab'], ['--taint']]) {
    const up = await ambit('up', '--name', `a${process.pid}`, ...flags)
    t.equal(up.code, 2, flags.join(' '))
    t.match(up.stderr, /without --kubeconfig.*AMB_USAGE/)
  }
  const missingFile = await ambit('up', '--name', `a${process.pid}`, '--kubeconfig', '/none')
  t.equal(missingFile.code, 1)
  t.match(missingFile.stderr, ONE_LINE_ERROR)
  t.match(missingFile.stderr, 'AMB_KUBECONFIG')
})
