// SPDX-License-Identifier: Apache-2.0
// Given an agent that had policies in force, when the next one of the node starts and no control plane answers, then the same policies
// are in force; and where what was kept cannot be trusted, nobody is let in by it.

import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { decodeHeld, encodeHeld } from '../../agent/policy-store/held-file.ts'
import { heldStateOf } from '../../agent/policy-store/held-state.ts'
import { PolicyStore } from '../../agent/policy-store/policy-store.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { Policy, PolicyKey } from '../../mesh/model/policy.ts'
import type { MeshChange } from '../../mesh/model/types.ts'
import { PolicySet } from '../../mesh/policy/evaluate.ts'
import { podUid, sampleWorkload } from '../model/samples.ts'
import { sampleCall, samplePolicy } from '../policy/samples.ts'
import { until } from '../support/until.ts'

const OWN = sampleWorkload('web', { authorizationPolicies: ['shop/named', 'shop/missing'] })
const ELSEWHERE = sampleWorkload('far', { node: 'node-b', namespace: 'bank' })

const MESH_WIDE = samplePolicy('strict', 'deny', [{ notPrincipals: [{ kind: 'present' }] }], {
  namespace: 'istio-system',
  scope: 'mesh',
})
const NAMED = samplePolicy('named', 'deny', [{ isPartlyUnread: true, destinationPorts: [99] }], {
  scope: 'workload',
  madeOf: 'PeerAuthentication shop/named',
})
const IN_NAMESPACE = samplePolicy('all', 'allow', [{ destinationPorts: [8080] }])
const OF_OTHERS = samplePolicy('all', 'deny', [{ destinationPorts: [1] }], { namespace: 'bank' })
const POLICIES = [MESH_WIDE, NAMED, IN_NAMESPACE, OF_OTHERS]
const UNREADABLE = {
  key: 'shop/later' as PolicyKey,
  reason: 'rules[0]: unknown value 9',
  scope: 'namespace',
} as const

const told = (policies: readonly Policy[]): MeshChange[] => [
  ...policies.map((policy) => ({ kind: 'policy', policy }) as const),
  { kind: 'policyUnreadable', policy: UNREADABLE },
  { kind: 'workload', workload: OWN },
  { kind: 'workload', workload: ELSEWHERE },
]
const SYNCED: MeshChange = { kind: 'policyKnowledge', is: 'current' }

interface LogLine {
  readonly level: number
  readonly msg: string
  readonly reason?: string
}

/** An agent of the node: its mesh state, and what it keeps. */
async function startAgent(
  directory: string,
  mayWrite: boolean | (() => boolean) = true,
  nodeName = 'node-a',
  served: readonly string[] = [],
) {
  let writes = 0
  const lines: LogLine[] = []
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line) as LogLine) })
  const mesh = new MeshState()
  const store = await PolicyStore.open({
    directory,
    nodeName,
    mesh,
    isServed: (uid) => served.includes(uid),
    mayWrite: () => {
      writes += 1
      return Promise.resolve(typeof mayWrite === 'boolean' ? mayWrite : mayWrite())
    },
    log,
  })
  return {
    mesh,
    store,
    lines,
    writes: () => writes,
    errors: () => lines.filter(({ level }) => level >= 50),
  }
}

async function directoryFor(t: Test): Promise<string> {
  const root = await mkdtemp(path.join(tmpdir(), 'ambit-policies-'))
  t.teardown(() => rm(root, { recursive: true, force: true }))
  return path.join(root, 'policies')
}

/** An agent has had the policies in force, and is gone. */
async function keptIn(directory: string, policies: readonly Policy[] = POLICIES): Promise<string> {
  const { mesh, store } = await startAgent(directory)
  mesh.apply(told(policies))
  mesh.apply([SYNCED])
  await store.close()
  return path.join(directory, 'held')
}

const keysOf = (mesh: MeshState): readonly string[] =>
  [...mesh.policies].map(({ key }) => key).sort()

void t.test(
  'a pod that discovery drops and that still runs keeps its policies, also over a restart; one that is gone does not',
  async (t) => {
    for (const [served, kept] of [
      [[OWN.uid], [OWN.uid]],
      [[], []],
    ] as const) {
      const directory = await directoryFor(t)
      const before = await startAgent(directory, true, 'node-a', served)
      before.mesh.apply([...told(POLICIES), SYNCED])
      before.mesh.apply([{ kind: 'workloadRemoved', uid: OWN.uid }])
      await before.store.close()
      const { mesh, store } = await startAgent(directory, true, 'node-a', served)
      t.strictSame(
        [...mesh.workloads()].map(({ uid }) => uid),
        kept,
      )
      t.strictSame(
        keysOf(mesh),
        served.length > 0
          ? ['istio-system/strict', 'shop/all', 'shop/named']
          : ['istio-system/strict'],
      )
      await store.close()
    }
  },
)

void t.test(
  'a pod whose workload could not be read is as closed to the next agent, until discovery tells',
  async (t) => {
    const directory = await directoryFor(t)
    const before = await startAgent(directory)
    before.mesh.apply([...told(POLICIES), SYNCED])
    before.mesh.apply([{ kind: 'workloadUnreadable', uid: OWN.uid, reason: 'status: is odd' }])
    await before.store.close()
    const { mesh, store } = await startAgent(directory)
    t.equal(mesh.unreadableWorkload(OWN.uid), 'status: is odd')
    t.strictSame(store.lastWords.of(OWN.uid), { workload: OWN, unreadable: 'status: is odd' })
    mesh.apply([{ kind: 'workload', workload: OWN }])
    mesh.apply([...store.outdated(), SYNCED])
    t.equal(mesh.unreadableWorkload(OWN.uid), undefined)
    t.strictSame(mesh.workload(OWN.uid), OWN, 'discovery has told of it: it is not outdated')
    await store.close()
  },
)

void t.test('the first agent of a node has nothing held, and says nothing of it', async (t) => {
  const { mesh, store, lines } = await startAgent(await directoryFor(t))
  t.equal(mesh.policies.knowledge, 'unknown')
  t.strictSame(lines, [])
  await store.close()
})

void t.test(
  'a restarted agent has in force what concerned its pods, before anybody tells it',
  async (t) => {
    const directory = await directoryFor(t)
    const file = await keptIn(directory)
    t.equal((await stat(file)).mode & 0o777, 0o600)
    t.equal((await stat(directory)).mode & 0o777, 0o700)
    t.strictSame(await readdir(directory), ['held'])

    const { mesh, store, lines } = await startAgent(directory)
    t.equal(mesh.policies.knowledge, 'held')
    t.strictSame(keysOf(mesh), ['istio-system/strict', 'shop/all', 'shop/named'])
    t.strictSame(mesh.workload(OWN.uid), OWN)
    t.equal(mesh.workload(ELSEWHERE.uid), undefined, 'workloads of other nodes are not kept')
    t.strictSame(mesh.policies.unreadable(UNREADABLE.key), UNREADABLE)
    t.strictSame(mesh.policies.wide('shop'), ['shop/all', 'shop/later'])
    const set = PolicySet.of([...mesh.policies])
    t.equal(set.evaluate(sampleCall({ identity: undefined })).kind, 'denied')
    t.equal(set.evaluate(sampleCall()).kind, 'allowed')
    const at99 = sampleCall({ destination: { ...sampleCall().destination, port: 99 } })
    t.match(set.evaluate(at99), { kind: 'unknown', by: { policy: { madeOf: NAMED.madeOf } } })
    t.match(lines, [{ level: 30, msg: /last in force/, workloads: 1, policies: 3, unreadable: 1 }])
    await store.close()
  },
)

void t.test(
  'discovery has the last word: what it does not tell is gone when it has told all',
  async (t) => {
    const directory = await directoryFor(t)
    await keptIn(directory)
    const { mesh, store } = await startAgent(directory)
    mesh.apply([
      { kind: 'policy', policy: MESH_WIDE },
      { kind: 'workload', workload: ELSEWHERE },
    ])
    // Until then what was held stays.
    t.strictSame(keysOf(mesh), ['istio-system/strict', 'shop/all', 'shop/named'])
    t.ok(mesh.workload(OWN.uid))
    mesh.apply([...store.outdated(), SYNCED])
    t.strictSame(keysOf(mesh), ['istio-system/strict'])
    t.equal(mesh.policies.unreadable(UNREADABLE.key), undefined)
    t.equal(mesh.workload(OWN.uid), undefined)
    t.strictSame(store.outdated(), [])
    await store.close()
    const next = await startAgent(directory)
    t.strictSame(keysOf(next.mesh), ['istio-system/strict'])
    await next.store.close()
  },
)

void t.test(
  'what is known before discovery has told all does not replace what is held',
  async (t) => {
    const directory = await directoryFor(t)
    const file = await keptIn(directory)
    const before = await readFile(file)
    const { mesh, store } = await startAgent(directory)
    mesh.apply([{ kind: 'policyRemoved', key: MESH_WIDE.key }])
    await store.close()
    t.strictSame(await readFile(file), before)
  },
)

void t.test('an agent that another has succeeded writes nothing', async (t) => {
  const directory = await directoryFor(t)
  const { mesh, store } = await startAgent(directory, false)
  mesh.apply([...told(POLICIES), SYNCED])
  await store.close()
  await t.rejects(readdir(directory), { code: 'ENOENT' })
})

void t.test(
  'one that succeeds another writes what it knows once the node is its own',
  async (t) => {
    const directory = await directoryFor(t)
    await keptIn(directory, [MESH_WIDE])
    let isInCharge = false
    const { mesh, store, writes } = await startAgent(directory, () => isInCharge)
    mesh.apply([...told(POLICIES), SYNCED])
    await until(() => writes() > 0, 'it to ask whether it may write')
    isInCharge = true
    store.begin()
    await store.close()
    const next = await startAgent(directory)
    t.ok(keysOf(next.mesh).includes(IN_NAMESPACE.key), 'though nothing has changed since')
    await next.store.close()
  },
)

void t.test('a policy that flaps is written a few times, and the last one stands', async (t) => {
  const directory = await directoryFor(t)
  const { mesh, store, writes } = await startAgent(directory)
  mesh.apply([...told(POLICIES), SYNCED])
  for (let index = 0; index <= 1_000; index += 1)
    mesh.apply([
      { kind: 'policy', policy: samplePolicy('all', 'deny', [{ destinationPorts: [index + 1] }]) },
    ])
  await store.close()
  t.ok(writes() <= 2, `${writes()} writes`)
  const next = await startAgent(directory)
  t.match(next.mesh.policies.get(IN_NAMESPACE.key), {
    action: 'deny',
    rules: [{ clauses: [{ matches: [{ destinationPorts: [1_001] }] }] }],
  })
  await next.store.close()
})

void t.test('what cannot be written is not left there as it was before', async (t) => {
  const directory = await directoryFor(t)
  const file = await keptIn(directory)
  // Nobody can make a file where a directory lies.
  const { mesh, store, errors } = await startAgent(directory)
  await mkdir(`${file}.tmp`)
  mesh.apply([...told([MESH_WIDE]), SYNCED])
  await store.close()
  t.match(errors(), [{ msg: /cannot keep the policies of this node/ }])
  t.strictSame(await readdir(directory), ['held.tmp'])
})

/** What is wrong with a file that was written in order, and how that is told. */
const DAMAGES: readonly (readonly [string, (bytes: Buffer) => Buffer, RegExp])[] = [
  ['an empty file', () => Buffer.alloc(0), /does not begin as such a file does/],
  ['something else', () => Buffer.from('{"policies":[]}\n'), /does not begin as such a file does/],
  ['a truncated file', (bytes) => bytes.subarray(0, -1), /bytes of content, and was written with/],
  ['a longer file', (bytes) => Buffer.concat([bytes, Buffer.from([0])]), /bytes of content/],
  [
    'a header alone',
    (bytes) => bytes.subarray(0, bytes.indexOf('\n') + 1),
    /has 0 bytes of content/,
  ],
  [
    'an older version',
    (bytes) => Buffer.from(bytes.toString('latin1').replace(/ 1 /, ' 0 '), 'latin1'),
    /its version is 0, not 1/,
  ],
  [
    'a later version',
    (bytes) => Buffer.from(bytes.toString('latin1').replace(/ 1 /, ' 2 '), 'latin1'),
    /its version is 2, not 1/,
  ],
]

for (const [what, damage, reason] of DAMAGES)
  void t.test(`${what} lets nobody in: pods are closed, and the log says why`, async (t) => {
    const directory = await directoryFor(t)
    const file = await keptIn(directory)
    await writeFile(file, damage(await readFile(file)))
    const { mesh, store, errors } = await startAgent(directory)
    t.equal(mesh.policies.knowledge, 'unknown')
    t.equal(mesh.policies.size, 0)
    t.equal(mesh.workload(OWN.uid), undefined)
    t.match(errors(), [{ msg: /pods are closed until the control plane/, reason }])
    await store.close()
  })

void t.test('whatever bit is flipped, nothing of the file is used', async (t) => {
  const mesh = new MeshState()
  mesh.apply([...told(POLICIES), SYNCED])
  const bytes = encodeHeld('node-a', heldStateOf(mesh, [OWN]))
  t.ok(decodeHeld('node-a', bytes).ok)
  let refused = 0
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const flipped = Buffer.from(bytes)
    flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    if (!decodeHeld('node-a', flipped).ok) refused += 1
  }
  t.equal(refused, bytes.length * 8)
})

void t.test('a file of another node, or that others may have written, is not used', async (t) => {
  const directory = await directoryFor(t)
  const file = await keptIn(directory)
  const refusedAs = async (reason: RegExp, nodeName = 'node-a'): Promise<void> => {
    const { mesh, store, errors } = await startAgent(directory, true, nodeName)
    t.equal(mesh.policies.knowledge, 'unknown')
    t.match(errors(), [{ reason }])
    await store.close()
  }
  await refusedAs(/of another node, node-a/, 'node-z')
  await chmod(file, 0o666)
  await refusedAs(/others may write it/)
  await chmod(file, 0o600)
  const kept = await readFile(file)
  await writeFile(`${directory}-other`, kept, { mode: 0o600 })
  await rm(file)
  await symlink(`${directory}-other`, file)
  await refusedAs(/ELOOP/)
})

void t.test(
  'a pod that left the node, and what concerned it alone, is kept no longer',
  async (t) => {
    const directory = await directoryFor(t)
    const { mesh, store } = await startAgent(directory)
    mesh.apply([...told(POLICIES), SYNCED])
    mesh.apply([{ kind: 'workloadRemoved', uid: podUid('shop', 'web') }])
    await store.close()
    const next = await startAgent(directory)
    t.strictSame(keysOf(next.mesh), ['istio-system/strict'])
    t.equal(next.mesh.policies.knowledge, 'held')
    await next.store.close()
  },
)

void t.test(
  'NetworkPolicies of the node’s pods are in force again, until discovery tells none',
  async (t) => {
    const directory = await directoryFor(t)
    const key = 'shop/isolated' as PolicyKey
    const policy = {
      ...{ key, namespace: 'shop', name: 'isolated', egress: undefined },
      ingress: { rules: [] },
    }
    const garbled = { key: 'shop/garbled' as PolicyKey, reason: 'ingress: garbled' }
    const before = await startAgent(directory)
    before.mesh.apply([
      { kind: 'networkPolicy', policy },
      { kind: 'networkPolicy', policy: { ...policy, key: 'shop/other' as PolicyKey } },
      { kind: 'networkPolicyUnreadable', policy: garbled },
      {
        kind: 'workload',
        workload: sampleWorkload('web', { networkPolicies: [key, garbled.key] }),
      },
      SYNCED,
    ])
    await before.store.close()
    const { mesh, store } = await startAgent(directory)
    t.strictSame([...mesh.networkPolicies], [policy])
    t.match([...mesh.networkPolicies.allUnreadable()], [garbled])
    t.strictSame(mesh.workload(podUid('shop', 'web'))?.networkPolicies, [key, garbled.key])
    mesh.apply(store.outdated())
    t.strictSame([...mesh.networkPolicies, ...mesh.networkPolicies.allUnreadable()], [])
    await store.close()
  },
)
