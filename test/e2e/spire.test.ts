// SPDX-License-Identifier: Apache-2.0
// Given a mesh and a real SPIRE below the same root, when the agents are told to have identities from SPIRE, then no call of the shop fails, and
// both ends prove themselves by certificates of SPIRE from then on, which are renewed and handed from agent to agent; and a pod that SPIRE does
// not know has no identity.

import t, { type Test } from 'tap'
import { X509Certificate } from 'node:crypto'
import { dirname } from 'node:path'
import type { Lab } from '../../lab/cluster/index.ts'
import { PODS } from '../../mesh/kube/index.ts'
import { missing } from '../helpers.ts'
import { makeCa, plugIn, type TestCa } from '../identity/pki.ts'
import {
  type AccessLine,
  accessLines,
  applyAll,
  linesWhere,
  MESH_NAMESPACE,
  meshLab,
  NEEDS,
  waitForCapture,
} from './support/mesh-lab.ts'
import { eventsIn, objectOf, objectsIn } from './support/objects.ts'
import { serverManifest } from './support/pods.ts'
import { missingSpire, type Spire, startSpire } from './support/real-spire.ts'
import { ambit, answers, CATALOG, SHOP } from './support/waypoint-guide.ts'

const skip = missing(...NEEDS) || missingSpire()
const ACCOUNTS = 'spiffe://cluster.local/ns'
const AGENT = `${ACCOUNTS}/ambit-system/sa/ambit-agent`
/** Whom a lab's processes run as. SPIRE's `unix` attestor goes by it. */
const AS_ROOT = 'unix:uid:0'
const WAYPOINT_PODS = 'gateway.networking.k8s.io/gateway-name=waypoint'
const CALLS = 20
/** Of the mesh and of SPIRE. */
const COMMON_ROOT = 'common root'

interface Dumped {
  readonly identity: string
  readonly state: string
  readonly certChain: readonly { readonly pem: string; readonly serialNumber: string }[]
}

/** What the agents hold for an account of the shop. */
async function held(lab: Lab, account: string): Promise<readonly Dumped[]> {
  const all = JSON.parse(await ambit(lab, 'certs', '-o', 'json')) as readonly Dumped[]
  return all.filter(({ identity }) => identity === `${ACCOUNTS}/shop/sa/${account}`)
}

/** SPIRE's leaves bear its name, and ours none. */
function isOfSpire({ certChain: [leaf] }: Dumped): boolean {
  return (
    leaf !== undefined &&
    new X509Certificate(Buffer.from(leaf.pem, 'base64')).subject.includes('O=SPIRE')
  )
}

/** Whether a line tells of a call by that account. */
const isOf =
  (account: string) =>
  (line: AccessLine): boolean =>
    line.direction === 'inbound' && line['src.identity'] === `${ACCOUNTS}/shop/sa/${account}`

await t.test('with SPIRE', { skip }, async (t) => {
  const root = await makeCa(COMMON_ROOT)
  const spire = await startSpire(t, root, AGENT)
  const lab = await meshLab(t, [SHOP])
  await lab.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient')
  await waitForCapture(lab, 'shop', true)
  await plugInRoot(lab, root)
  await register(lab, spire)
  const rolledOut = async (what: string): Promise<void> => {
    await lab.kubectl('rollout', 'status', what, `-n${MESH_NAMESPACE}`, '--timeout=120s')
  }
  const patch = async (what: string, pod: object): Promise<void> => {
    const spec = { template: { spec: pod } }
    await lab.kubectl('patch', what, `-n${MESH_NAMESPACE}`, `-p=${JSON.stringify({ spec })}`)
    await rolledOut(what)
  }
  /** Calls until it has come about; one that fails ends the test. */
  const underCalls = async (change: Promise<void>): Promise<number> => {
    const done = { isDone: false }
    const changed = change.finally(() => (done.isDone = true))
    let rounds = 0
    while (!done.isDone) {
      await answers(lab, CALLS)
      rounds += 1
    }
    await changed
    return rounds
  }

  await t.test('a mesh whose root is that of SPIRE moves there, and calls go on', async (t) => {
    const pod = withSocket('agent', 'AMBIT_SPIRE_ADMIN_SOCKET', spire.adminSocket)
    t.ok((await underCalls(patch('daemonset/ambit-agent', pod))) > 0)
  })

  await t.test("calls go between nodes by SPIRE's certificates", async (t) => {
    await answers(lab, CALLS)
    const calls = await linesWhere(lab, 'node-b', 'a call of the frontend', isOf('frontend'))
    t.ok(calls.length > 0)
    for (const account of ['frontend', 'catalog'])
      for (const each of await held(lab, account)) t.ok(isOfSpire(each), `${account}: of SPIRE`)
  })

  await t.test('SPIRE renews them, and calls go on', async (t) => {
    const serial = async (): Promise<string | undefined> =>
      (await held(lab, 'frontend'))[0]?.certChain[0]?.serialNumber
    const first = await serial()
    await lab.waitFor('another certificate', async () => {
      await answers(lab, CALLS)
      return (await serial()) === first ? undefined : true
    })
    t.ok(first)
  })

  await t.test('an agent hands its pods to another, and calls go on', async (t) => {
    await lab.kubectl('rollout', 'restart', 'daemonset/ambit-agent', `-n${MESH_NAMESPACE}`)
    t.ok((await underCalls(rolledOut('daemonset/ambit-agent'))) > 0)
  })

  await t.test('a pod that SPIRE does not know calls nobody, and is told why', async (t) => {
    await stranger(t, lab)
  })

  await t.test('a waypoint has its certificate by the Workload API', async (t) => {
    await spire.entry(`${ACCOUNTS}/shop/sa/waypoint`, [AS_ROOT])
    const name = 'AMBIT_WAYPOINT_WORKLOAD_API_SOCKET'
    const env = [{ name, value: spire.workloadApiSocket }]
    await patch('deployment/ambit-controller', { containers: [{ name: 'controller', env }] })
    await applyAll(lab, waypoint(spire))
    const programmed = ['--for=condition=Programmed', 'gateway/waypoint', '--timeout=120s']
    await lab.kubectl('wait', '-nshop', ...programmed)
    await lab.kubectl('label', 'namespace', 'shop', 'istio.io/use-waypoint=waypoint')
    const isToWaypoint = (line: AccessLine): boolean =>
      line['dst.identity'] === `${ACCOUNTS}/shop/sa/waypoint`
    const [pod] = await objectsIn(lab, PODS, 'shop', WAYPOINT_PODS)
    const waypointPod = `shop/${pod?.metadata?.name ?? ''}`
    await lab.waitFor('calls through the waypoint', async () => {
      await answers(lab, CALLS)
      return (await accessLines(lab, 'node-a')).some(isToWaypoint) ? true : undefined
    })
    const dump = ['curl', '-sS', 'http://127.0.0.1:15000/config_dump']
    const { stdout } = await lab.exec(waypointPod, dump)
    const [own] = (JSON.parse(stdout) as { readonly certificates: readonly Dumped[] }).certificates
    t.match(own, { identity: `${ACCOUNTS}/shop/sa/waypoint`, state: 'Available' })
    t.ok(own !== undefined && isOfSpire(own), 'of SPIRE')
  })
})

/** A pod whose only container is given a socket of the machine: a lab's pods have of its files only copies. */
function withSocket(container: string, variable: string, socket: string): object {
  const directory = dirname(socket.replace(/^unix:\/\//, ''))
  const env = variable === '' ? [] : [{ name: variable, value: socket }]
  return {
    containers: [{ name: container, env, volumeMounts: [{ name: 'spire', mountPath: directory }] }],
    volumes: [{ name: 'spire', hostPath: { path: directory } }],
  }
}

/** Its socket is where the controller says; what brings it there is csi.spiffe.io elsewhere. */
function waypoint({ workloadApiSocket }: Spire): readonly object[] {
  const spec = { template: { spec: withSocket('waypoint', '', workloadApiSocket) } }
  return [
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace: 'shop', name: 'waypoint-objects' },
      data: { deployment: JSON.stringify({ spec }) },
    },
    {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'Gateway',
      metadata: { namespace: 'shop', name: 'waypoint' },
      spec: {
        gatewayClassName: 'ambit-waypoint',
        infrastructure: {
          parametersRef: { group: '', kind: 'ConfigMap', name: 'waypoint-objects' },
        },
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    },
  ]
}

/** The mesh signs below that root from now on, before any call is made. */
async function plugInRoot(lab: Lab, root: TestCa): Promise<void> {
  const { certificatePem, privateKeyPem, chainPem, rootsPem } = plugIn(root, [root])
  const fields = {
    'ca-cert.pem': certificatePem,
    'ca-key.pem': privateKeyPem,
    'cert-chain.pem': chainPem,
    'root-cert.pem': rootsPem,
  }
  const metadata = { namespace: MESH_NAMESPACE, name: 'cacerts' }
  await applyAll(lab, [{ apiVersion: 'v1', kind: 'Secret', metadata, stringData: fields }])
  await lab.waitFor('certificates below that root', async () => {
    const all = [...(await held(lab, 'frontend')), ...(await held(lab, 'catalog'))]
    return all.length === 2 && all.every(isBelowCommonRoot) ? true : undefined
  })
}

function isBelowCommonRoot({ certChain: [leaf] }: Dumped): boolean {
  return (
    leaf !== undefined &&
    new X509Certificate(Buffer.from(leaf.pem, 'base64')).issuer.includes(COMMON_ROOT)
  )
}

/** The frontend by its account, as by hand; the catalog pod by pod, as spire-controller-manager does it. */
async function register(lab: Lab, spire: Spire): Promise<void> {
  await spire.entry(`${ACCOUNTS}/shop/sa/frontend`, ['k8s:ns:shop', 'k8s:sa:frontend'])
  for (const name of ['catalog-v1', 'catalog-v2']) {
    const { metadata } = await objectOf(lab, PODS, `shop/${name}`)
    await spire.entry(`${ACCOUNTS}/shop/sa/catalog`, [`k8s:pod-uid:${metadata?.uid ?? ''}`])
  }
  // The last one: its agent hears of all at once, some seconds later.
  await spire.entry(AGENT, [AS_ROOT])
  await spire.known(AGENT)
}

async function stranger(t: Test, lab: Lab): Promise<void> {
  const pod = serverManifest({ namespace: 'shop', name: 'stranger', node: 'node-a' })
  await lab.apply(JSON.stringify(pod))
  await lab.waitForPods()
  await waitForCapture(lab, 'shop', true)
  const curl = ['curl', '-sS', '-m', '20', CATALOG]
  const { code } = await lab.exec('shop/stranger', curl, { timeoutMs: 60_000 })
  t.ok(code === 52 || code === 56, `refused: ${String(code)}`)
  const told = await lab.waitFor('an event of the pod', async () => {
    const found = await eventsIn(lab, 'shop', { object: 'stranger' })
    return found.includes('SPIRE') ? found : undefined
  })
  t.match(told, `SPIRE has no entry for ${ACCOUNTS}/shop/sa/default (selectors k8s:ns:shop`)
}
