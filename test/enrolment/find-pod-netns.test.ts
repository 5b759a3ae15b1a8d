// SPDX-License-Identifier: Apache-2.0
// Finding the processes of pods by /proc: the pure readers by table, then real processes in real cgroups and namespaces.

import t, { type Test } from 'tap'
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import {
  findPodProcesses,
  PodFinder,
  startTimeOfStat,
} from '../../agent/enrolment/find-pod-netns.ts'
import { netnsAt } from '../../agent/enrolment/netns-identity.ts'
import { kubeletRoots, podUidOfCgroup } from '../../agent/enrolment/pod-cgroup.ts'
import { cgroup2Mount, missing, uniqueName } from '../helpers.ts'
import { until } from '../support/until.ts'

const UID = '5f0c1c52-8a3e-4bd1-9d6f-0a53b7d8a001'
const UNDERSCORED = UID.replaceAll('-', '_')
const OTHER = '11111111-2222-3333-4444-555555555555'
const HASH = '0123456789abcdef0123456789abcdef'

/** A process of the agent, and what it makes of the cgroup of another. */
interface Sight {
  readonly own: string
  readonly nodeCgroup?: string
  readonly seen: readonly (readonly [text: string, uid: string | undefined])[]
}

const SIGHTS: Readonly<Record<string, Sight>> = {
  'on the machine': {
    own: '0::/system.slice/ambit.service',
    nodeCgroup: '/sys/fs/cgroup',
    seen: [
      [`0::/kubepods/burstable/pod${UID}/4f1e\n`, UID],
      [`0::/kubepods/pod${UID}`, UID],
      [
        `0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${UNDERSCORED}.slice/cri-containerd-4f1e.scope`,
        UID,
      ],
      [`0::/kubepods.slice/kubepods-pod${UNDERSCORED}.slice/crio-4f1e.scope`, UID],
      [`11:memory:/kubepods/pod${UID}/x\n1:name=systemd:/kubepods/pod${UID}/x\n0::/\n`, UID],
      [`0::/kubepods/pod${HASH}/etcd`, HASH],
      [`0::/kubepods-besteffort-pod${UNDERSCORED}.slice:cri-containerd:4f1e`, UID],
      [`0::/kubepods/pod${OTHER}/c/kubepods/pod${UID}/forged`, OTHER],
      [`0::/kubepods/pod${OTHER}/c/pod${UID}`, OTHER],
      [`0::/kubepods/pod${OTHER}/../pod${UID}`, OTHER],
      [
        `0::/kubepods.slice/kubepods-pod${OTHER}.slice/c.scope/kubepods.slice/kubepods-pod${UNDERSCORED}.slice`,
        OTHER,
      ],
      [`1:name=systemd:/kubepods/pod${OTHER}/x\n0::/kubepods/pod${UID}/x\n`, undefined],
      [`0::/user.slice/user-1000.slice/kubepods/pod${UID}/x`, undefined],
      [`0::/user.slice/pod${UID}`, undefined],
      [`0::/kubepods/deep/er/pod${UID}/x`, undefined],
      [`0::/kubepods/pod${UID}extra/x`, undefined],
      [`0::/kubepods/x-pod${UID}/x`, undefined],
      [`0::/kubepods/${UID}/x`, undefined],
      ['0::/system.slice/podman.service', undefined],
      ['0::/', undefined],
      ['', undefined],
    ],
  },
  'in a pod of the node': {
    own: `0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod${OTHER.replaceAll('-', '_')}.slice/cri-x.scope`,
    seen: [
      [
        `0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${UNDERSCORED}.slice/cri-y.scope`,
        UID,
      ],
      [`0::/kubepods/pod${UID}/x`, undefined],
    ],
  },
  'in a pod of a cluster within a pod': {
    own: `0::/kubepods/pod${OTHER}/c/kubepods/burstable/pod${HASH}/agent`,
    seen: [
      [`0::/kubepods/pod${OTHER}/c/kubepods/pod${UID}/app`, UID],
      [`0::/kubepods/pod${OTHER}/c/kubepods/pod${UID}/app/kubepods/pod${HASH}/forged`, UID],
      [`0::/kubepods/pod${UID}/of-the-cluster-around`, undefined],
    ],
  },
  'in a pod whose runtime and kubelet have different cgroup drivers': {
    own: `0::/system.slice/containerd.service/kubepods-pod${OTHER.replaceAll('-', '_')}.slice:cri-containerd:4f1e`,
    seen: [
      [
        `0::/system.slice/containerd.service/kubepods-besteffort-pod${UNDERSCORED}.slice:cri-containerd:4f1e`,
        UID,
      ],
      [`0::/kubepods-besteffort-pod${UNDERSCORED}.slice:cri-containerd:4f1e`, undefined],
    ],
  },
  'in a cgroup namespace of its own': {
    own: '0::/',
    seen: [
      [`0::/../../kubepods-pod${UNDERSCORED}.slice/cri-y.scope`, UID],
      [`0::/../../../kubepods-besteffort.slice/kubepods-besteffort-pod${UNDERSCORED}.slice`, UID],
      [`0::/../../../burstable/pod${UID}/x`, UID],
      [`0::/../../pod${OTHER}/c/kubepods/pod${UID}/forged`, OTHER],
      [`0::/../../../../user.slice/kubepods/pod${UID}`, undefined],
      ['0::/../..', undefined],
    ],
  },
  'on one of several nodes of a machine': {
    own: '0::/ambit-demo/node-a/agent',
    nodeCgroup: '/sys/fs/cgroup/unified/ambit-demo/node-a',
    seen: [
      [`0::/ambit-demo/node-a/kubepods/pod${UID}/app`, UID],
      [`0::/ambit-demo/node-b/kubepods/pod${UID}/app`, undefined],
      [`0::/ambit-demo/node-a/agent/kubepods/pod${UID}`, undefined],
    ],
  },
}

for (const [where, { own, nodeCgroup = '/sys/fs/cgroup', seen }] of Object.entries(SIGHTS))
  void t.test(`seen from ${where}, the outermost cgroup names the pod`, (t) => {
    const roots = kubeletRoots(own, nodeCgroup)
    for (const [text, uid] of seen) t.equal(podUidOfCgroup(text, roots), uid, text)
    t.end()
  })

void t.test('no name that a process chooses below its own cgroup changes whose it is', (t) => {
  const roots = kubeletRoots('0::/', '/sys/fs/cgroup')
  const name = fc.oneof(
    fc.constantFrom('kubepods', 'kubepods.slice', 'burstable', '..', '.', ''),
    fc.constantFrom(`pod${UID}`, `kubepods-pod${UNDERSCORED}.slice`, `pod${HASH}`),
    fc.string(),
  )
  fc.assert(
    fc.property(fc.array(name, { maxLength: 6 }), (names) => {
      const forged = names.map((each) => each.replaceAll(/[\n/]/g, '')).join('/')
      return podUidOfCgroup(`0::/kubepods/pod${OTHER}/${forged}`, roots) === OTHER
    }),
  )
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
    const finder = new PodFinder(async () => {
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
  const parent = path.join(cgroup2Mount() ?? '', `${uniqueName('cg')}-kubepods`)
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
  // The kernel takes the killed out of it a little after their parent hears of it.
  await until(async () => {
    try {
      await rmdir(directory)
      return true
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'EBUSY') throw thrown
      return false
    }
  }, `${directory} to be empty`)
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
    const found = (await findPodProcesses('/')).get(sandbox.uid)
    t.match(found, [{ pid: child.pid, netnsPath: `/proc/${child.pid}/ns/net` }])
    t.same(found?.[0]?.identity, await netnsAt(`/run/netns/${sandbox.netns}`))
  })

void t.test(
  'the oldest process comes first, and none that is in our own namespace',
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
    const found = (await findPodProcesses('/')).get(sandbox.uid) ?? []
    t.equal(found[0]?.pid, first.pid)
    t.equal(found.at(-1)?.pid, child.pid)
    t.notOk(found.some(({ pid }) => pid === helper.pid))
  },
)

void t.test('processes that end during the scan do no harm', { skip }, async (t) => {
  const sandbox = await makeSandbox(t, drivers.cgroupfs)
  await sandbox.run()
  const churn = spawn('sh', ['-c', 'i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done'])
  const over = once(churn, 'exit')
  let scans = 0
  while (churn.exitCode === null) {
    t.ok((await findPodProcesses('/')).has(sandbox.uid))
    scans += 1
  }
  await over
  t.ok(scans > 0)
})

void t.test('a namespace that is gone has no identity', async (t) => {
  t.equal(await netnsAt('/run/netns/ambit-there-is-no-such'), undefined)
  t.equal(await netnsAt('/proc/999999999/ns/net'), undefined)
})
