// SPDX-License-Identifier: Apache-2.0
// Finding pods by /proc: the pure readers by table, then real processes in real cgroups and namespaces.

import t, { type Test } from 'tap'
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { randomUUID } from 'node:crypto'
import {
  findPodNetns,
  PodNetnsFinder,
  podUidOfCgroup,
  startTimeOfStat,
} from '../../agent/enrolment/find-pod-netns.ts'
import { netnsAt } from '../../agent/enrolment/netns-identity.ts'
import { cgroup2Mount, missing, uniqueName } from '../helpers.ts'

const UID = '5f0c1c52-8a3e-4bd1-9d6f-0a53b7d8a001'
const UNDERSCORED = UID.replaceAll('-', '_')
const OTHER = '11111111-2222-3333-4444-555555555555'
const HASH = '0123456789abcdef0123456789abcdef'

void t.test('the pod of a process is read from its cgroup', (t) => {
  const cases: readonly [string, string | undefined][] = [
    [`0::/kubepods/burstable/pod${UID}/4f1e\n`, UID],
    [`0::/kubepods/pod${UID}`, UID],
    [
      `0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${UNDERSCORED}.slice/cri-containerd-4f1e.scope`,
      UID,
    ],
    [`11:memory:/kubepods/pod${UID}/x\n1:name=systemd:/kubepods/pod${UID}/x\n0::/\n`, UID],
    [`0::/../../kubepods-pod${UNDERSCORED}.slice`, UID],
    [`0::/kubepods/pod${OTHER}/outer/kubepods/pod${UID}/inner`, UID],
    [`0::/ambit-demo/node-a/kubepods/pod${UID}/app`, UID],
    [`0::/kubepods/pod${HASH}/etcd`, HASH],
    [`0::/kubepods/pod${UID}extra/x`, undefined],
    [`0::/kubepods/${UID}/x`, undefined],
    ['0::/system.slice/podman.service', undefined],
    ['', undefined],
  ]
  for (const [text, uid] of cases) t.equal(podUidOfCgroup(text), uid, text.slice(0, 60))
  t.end()
})

void t.test('the start time of a process is read whatever its name', (t) => {
  const rest = `S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 10`
  t.equal(startTimeOfStat(`12 (sh) ${rest}`), 987654)
  t.equal(startTimeOfStat(`12 (a ) 1 (b)) ${rest}`), 987654)
  t.equal(startTimeOfStat('12 (sh) S 1'), undefined)
  t.equal(startTimeOfStat(''), undefined)
  t.end()
})

void t.test(
  'scans are shared, and none is shared that began before it was asked for',
  async (t) => {
    const gates: (() => void)[] = []
    const finder = new PodNetnsFinder(async () => {
      await new Promise<void>((resolve) => gates.push(resolve))
      return new Map()
    })
    const first = finder.find()
    const second = finder.find()
    const third = finder.find()
    t.equal(gates.length, 1)
    t.not(first, second)
    t.equal(second, third)
    gates[0]?.()
    const one = await first
    while (gates.length < 2) await new Promise((resolve) => setImmediate(resolve))
    gates[1]?.()
    t.not(await second, one)
    const fourth = finder.find()
    t.equal(gates.length, 3)
    gates[2]?.()
    await fourth
  },
)

interface Sandbox {
  readonly uid: string
  readonly netns: string
  /** Starts a process of the pod; the namespace is the pod's unless another is named. */
  run(netns?: string): Promise<ChildProcess>
}

/** A pod's cgroup and namespace, gone after the test. */
async function makeSandbox(test: Test, directoryName: (uid: string) => string): Promise<Sandbox> {
  const uid = randomUUID()
  const netns = uniqueName('ns')
  const parent = path.join(cgroup2Mount() ?? '', uniqueName('cg'))
  const cgroup = path.join(parent, directoryName(uid))
  const children: ChildProcess[] = []
  test.teardown(async () => {
    for (const child of children) {
      const exited =
        child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
      child.kill('SIGKILL')
      await exited
    }
    // The kernel empties a cgroup a moment after the exit of its last process.
    for (const directory of [cgroup, parent]) await removeCgroup(directory)
    execFileSync('ip', ['netns', 'delete', netns])
  })
  await mkdir(cgroup, { recursive: true })
  execFileSync('ip', ['netns', 'add', netns])
  return {
    uid,
    netns,
    async run(inNetns = netns) {
      const command = `echo $$ > ${cgroup}/cgroup.procs && echo ready && exec sleep 60`
      const child = spawn('nsenter', [`--net=/run/netns/${inNetns}`, 'sh', '-c', command], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      children.push(child)
      await once(child.stdout, 'data')
      return child
    },
  }
}

async function removeCgroup(directory: string): Promise<void> {
  const deadline = performance.now() + 3000
  for (;;) {
    try {
      await rmdir(directory)
      return
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'EBUSY' || performance.now() > deadline)
        throw thrown
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

const skip = missing('root', 'cgroup2')
const drivers = {
  cgroupfs: (uid: string) => `pod${uid}`,
  systemd: (uid: string) => `kubepods-pod${uid.replaceAll('-', '_')}.slice`,
}

for (const [driver, directoryName] of Object.entries(drivers))
  void t.test(`real pods are found, cgroups by ${driver}`, { skip }, async (t) => {
    const sandbox = await makeSandbox(t, directoryName)
    const child = await sandbox.run()
    const found = (await findPodNetns()).get(sandbox.uid)
    t.match(found, { pid: child.pid, netnsPath: `/proc/${child.pid}/ns/net` })
    t.same(found?.identity, await netnsAt(`/run/netns/${sandbox.netns}`))
  })

void t.test(
  'the oldest process counts, and never one in our own namespace',
  { skip },
  async (t) => {
    const sandbox = await makeSandbox(t, drivers.cgroupfs)
    const other = await makeSandbox(t, drivers.cgroupfs)
    // A helper of the runtime, in the pod's cgroup but in the node's namespace: older than all.
    const helper = spawn('sleep', ['60'], { stdio: 'ignore' })
    t.teardown(async () => {
      const exited = once(helper, 'exit')
      helper.kill('SIGKILL')
      await exited
    })
    const first = await sandbox.run()
    const procs =
      (await readFile(`/proc/${first.pid}/cgroup`, 'utf8')).split('0::')[1]?.trim() ?? ''
    await writeFile(path.join(cgroup2Mount() ?? '', procs, 'cgroup.procs'), String(helper.pid))
    // Start times are counted in ticks of 10 ms: the next process must be younger by one at least.
    const started = startTimeOfStat(await readFile(`/proc/${first.pid}/stat`, 'utf8')) ?? 0
    let child = await sandbox.run(other.netns)
    while ((startTimeOfStat(await readFile(`/proc/${child.pid}/stat`, 'utf8')) ?? 0) <= started)
      child = await sandbox.run(other.netns)
    const found = (await findPodNetns()).get(sandbox.uid)
    t.equal(found?.pid, first.pid)
  },
)

void t.test('processes that end during the scan do no harm', { skip }, async (t) => {
  const sandbox = await makeSandbox(t, drivers.cgroupfs)
  await sandbox.run()
  const churn = spawn('sh', ['-c', 'i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done'])
  const over = once(churn, 'exit')
  let scans = 0
  while (churn.exitCode === null) {
    t.ok((await findPodNetns()).has(sandbox.uid))
    scans += 1
  }
  await over
  t.ok(scans > 0)
})

void t.test('a namespace that is gone has no identity', async (t) => {
  t.equal(await netnsAt('/run/netns/ambit-there-is-no-such'), undefined)
  t.equal(await netnsAt('/proc/999999999/ns/net'), undefined)
})
