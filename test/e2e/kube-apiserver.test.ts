// SPDX-License-Identifier: Apache-2.0
// The product against a true kube-apiserver with RBAC: the demonstration's checks, what the service accounts of the
// mesh may and may not do, plain kubectl, and what `lab down` leaves. Once where the server is all there is, once with
// kube-controller-manager and kube-scheduler.

import t, { type Test } from 'tap'
import { fileURLToPath } from 'node:url'
import { createLab, type Lab, takeDown } from '../../lab/cluster/index.ts'
import { apiObjects } from './support/api-objects.ts'
import { NEEDS } from './support/mesh-lab.ts'
import { holdDemoChecks } from './support/demo.ts'
import { missing } from '../helpers.ts'
import {
  FIRST_SERVICE_IP,
  missingPrograms,
  startRealApiServer,
} from '../../lab/kubernetes/real/api-server.ts'

const CONTROLLERS = ['kube-controller-manager', 'kube-scheduler']
const SERVER = ['kube-apiserver', 'etcd']
const SHOP = fileURLToPath(new URL('../../lab/samples/shop.yaml', import.meta.url))

for (const hasControllers of [false, true]) {
  const programs = hasControllers ? [...SERVER, ...CONTROLLERS] : SERVER
  await t.test(
    hasControllers ? 'kube-apiserver with its controllers' : 'kube-apiserver alone',
    { skip: missing(...NEEDS) || missingPrograms(...programs) },
    async (t) => await story(t, hasControllers),
  )
}

async function story(t: Test, hasControllers: boolean): Promise<void> {
  const name = `k${process.pid}`
  const server = await startRealApiServer()
  t.teardown(async () => {
    const { leftovers } = await takeDown(name)
    await server[Symbol.asyncDispose]()
    if (leftovers.length > 0) throw new Error(`left of lab ${name}: ${leftovers.join('; ')}`)
  })
  if (hasControllers) await server.startControllers()
  const before = await apiObjects(server.api)
  const told: string[] = []
  const lab = await createLab({
    name,
    files: [SHOP],
    attach: { kubeconfig: server.kubeconfig },
    report: (line) => told.push(line),
  })
  const whose = hasControllers ? "the cluster's own" : "the lab's"
  t.match(told.join('\n'), `controllers: ${whose}; scheduler: ${whose}`)

  await holdDemoChecks(t, lab)

  await t.test('pods reach the server by its own service and authority', async (t) => {
    const script = [
      'dir=/var/run/secrets/kubernetes.io/serviceaccount',
      'curl -sS --cacert $dir/ca.crt -H "Authorization: Bearer $(cat $dir/token)" https://kubernetes.default/version -o /dev/null -w "%{http_code} %{remote_ip}"',
    ].join('\n')
    const answer = await lab.exec('shop/frontend', ['sh', '-c', script])
    t.strictSame(answer, { code: 0, stdout: `200 ${FIRST_SERVICE_IP}`, stderr: '' })
  })

  await t.test('the mesh may do what it needs and no more', async (t) => await permissions(t, lab))

  await t.test('kubectl rolls a deployment out and watches it', async (t) => {
    await lab.kubectl(
      'create',
      'deployment',
      'web',
      '-n',
      'shop',
      '--image=host',
      '--replicas=3',
      '--',
      'sleep',
      '1000',
    )
    await lab.kubectl(
      'wait',
      'deployment/web',
      '-n',
      'shop',
      '--for=condition=Available',
      '--timeout=120s',
    )
    await lab.kubectl('rollout', 'restart', 'deployment/web', '-n', 'shop')
    t.match(
      await lab.kubectl('rollout', 'status', 'deployment/web', '-n', 'shop', '--timeout=120s'),
      'successfully rolled out',
    )
    await lab.kubectl('scale', 'deployment/web', '-n', 'shop', '--replicas=0')
    await lab.kubectl(
      'wait',
      'pod',
      '-n',
      'shop',
      '-l',
      'app=web',
      '--for=delete',
      '--timeout=120s',
    )
  })

  await t.test('a namespace goes with everything in it, of whatever kind', async (t) => {
    await lab.kubectl('create', 'namespace', 'extra')
    await lab.kubectl('create', 'quota', 'small', '-n', 'extra', '--hard=pods=3')
    await lab.kubectl('create', 'ingress', 'way', '-n', 'extra', '--rule=a.test/=web:80')
    await lab.kubectl(
      'run',
      'idle',
      '-n',
      'extra',
      '--image=host',
      '--command',
      '--',
      'sleep',
      '1000',
    )
    await lab.kubectl('wait', 'pod/idle', '-n', 'extra', '--for=condition=Ready')
    await lab.kubectl('delete', 'pod', 'idle', '-n', 'extra', '--grace-period=1')
    await lab.kubectl('delete', 'namespace', 'extra', '--timeout=120s')
    await lab.kubectl('create', 'namespace', 'extra')
    t.equal(await lab.kubectl('get', 'quota,ingress,pods', '-n', 'extra', '-o', 'name'), '')
    await lab.kubectl('delete', 'namespace', 'extra', '--timeout=120s')
  })

  await t.test('down leaves the server as it was', async (t) => {
    t.strictSame((await lab.down()).leftovers, [])
    t.strictSame(await apiObjects(server.api), before)
  })
}

/** kubectl's own question, asked of the server's RBAC. */
async function permissions(t: Test, lab: Lab): Promise<void> {
  const may = async (account: string, ...question: readonly string[]): Promise<boolean> => {
    const as = `--as=system:serviceaccount:ambit-system:${account}`
    const { stdout } = await lab.tryKubectl('auth', 'can-i', as, ...question)
    return stdout.trim() === 'yes'
  }
  const agent = async (...question: readonly string[]): Promise<boolean> =>
    await may('ambit-agent', ...question)
  const controller = async (...question: readonly string[]): Promise<boolean> =>
    await may('ambit-controller', ...question)
  t.ok(await agent('watch', 'pods', '--all-namespaces'))
  t.ok(await agent('patch', 'pods', '--subresource=status', '-n', 'shop'))
  t.notOk(await agent('patch', 'pods', '-n', 'shop'))
  t.notOk(await agent('get', 'secrets', '-n', 'ambit-system'))
  t.notOk(await agent('create', 'tokenreviews.authentication.k8s.io'))
  t.ok(await controller('create', 'tokenreviews.authentication.k8s.io'))
  t.ok(await controller('get', 'secret/ambit-ca-secret', '-n', 'ambit-system'))
  t.notOk(await controller('get', 'secrets', '-n', 'ambit-system'))
  t.notOk(await controller('get', 'secrets', '-n', 'shop'))
  t.notOk(await controller('update', 'configmaps', '-n', 'shop'))
  t.ok(await controller('patch', 'configmap/istio-ca-root-cert', '-n', 'shop'))
  t.notOk(await controller('delete', 'pods', '-n', 'shop'))
  t.ok(await controller('create', 'deployments.apps', '-n', 'shop'))
  t.ok(await controller('delete', 'deployments.apps', '-n', 'shop'), 'a waypoint of before')
  t.notOk(await controller('delete', 'statefulsets.apps', '-n', 'shop'))
  t.notOk(await controller('update', 'gateways.gateway.networking.k8s.io', '-n', 'shop'))
}
