// SPDX-License-Identifier: Apache-2.0
// Where a node's cgroups begin and which is the kubelet's, found without being told: on hosts of all kinds, from inside of a
// container, and never to be misled by a pod.

import { spawn } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { cgroupMounts, pathBelow, unifiedCgroup } from '../../agent/node/cgroup-path.ts'
import { findNodeCgroups, kubeletCgroup } from '../../agent/node/node-cgroups.ts'
import { kubeletProcesses } from '../../agent/node/kubelet-process.ts'
import { missing } from '../helpers.ts'
import { until } from '../support/until.ts'

const log = pino({ level: 'silent' })
const names = (text: string): readonly string[] => text.split('/').filter((name) => name !== '')

await t.test('the outermost cgroup v2 that can be reached', (t) => {
  const line = (root: string, at: string, type = 'cgroup2'): string =>
    `30 24 0:27 ${root} ${at} rw,nosuid shared:4 - ${type} ${type} rw`
  for (const [what, lines, at, root] of [
    ['an ordinary host', [line('/', '/sys/fs/cgroup')], '/sys/fs/cgroup', ''],
    [
      'a hybrid host',
      [
        line('/', '/sys/fs/cgroup', 'tmpfs'),
        line('/', '/sys/fs/cgroup/cpu', 'cgroup'),
        line('/', '/sys/fs/cgroup/unified'),
      ],
      '/sys/fs/cgroup/unified',
      '',
    ],
    [
      "a container with the host's mounted over its own",
      [line('/', '/sys/fs/cgroup'), line('/../../../..', '/sys/fs/cgroup')],
      '/sys/fs/cgroup',
      '../../../..',
    ],
    [
      "a container with the host's beside its own",
      [line('/../../..', '/host/cgroup'), line('/', '/sys/fs/cgroup')],
      '/host/cgroup',
      '../../..',
    ],
    ['a blank in the path', [line('/', '/my\\040cgroups')], '/my cgroups', ''],
    [
      'hidden by something else',
      [line('/', '/x'), line('/', '/y'), line('/', '/x', 'tmpfs')],
      '/y',
      '',
    ],
  ] as const) {
    const [mount] = cgroupMounts(lines.join('\n'))
    t.same(mount, { at, root: names(root) }, what)
  }
  t.same(cgroupMounts(`${line('/', '/sys/fs/cgroup/cpu', 'cgroup')}\nnonsense\n`), [])
  t.end()
})

await t.test('a path of /proc leads to a directory below the mount', (t) => {
  for (const [root, cgroup, unknown, below] of [
    ['', 'system.slice/kubelet.service', 0, 'system.slice/kubelet.service'],
    ['node', 'node/kubelet', 0, 'kubelet'],
    ['../../..', '../../../system.slice/kubelet.service', 0, 'system.slice/kubelet.service'],
    ['../../../..', '../../../kubelet.service', 1, 'kubelet.service'],
    ['', '', 0, ''],
  ] as const)
    t.same(
      pathBelow({ root: names(root) }, names(cgroup)),
      { unknown, names: names(below) },
      cgroup,
    )
  for (const [root, cgroup] of [
    ['', '../kubelet'],
    ['node', 'other/kubelet'],
    ['..', '../../kubelet'],
  ] as const)
    t.equal(
      pathBelow({ root: names(root) }, names(cgroup)),
      undefined,
      `${cgroup} is not below ${root}`,
    )
  t.same(unifiedCgroup('12:cpu:/a\n1:name=systemd:/b\n0::/c/d\n'), ['c', 'd'])
  t.equal(unifiedCgroup('12:cpu:/a\n'), undefined)
  t.end()
})

interface Pretended {
  readonly exe?: string
  readonly cgroup?: string
  readonly uid?: number
  readonly pids?: string
  readonly netns?: string
  readonly listens?: boolean
}

/** A /proc with these processes. */
function pretend(t: Test, processes: Readonly<Record<number, Pretended>>): string {
  const root = mkdtempSync(path.join(tmpdir(), 'ambit-proc-'))
  t.teardown(() => rmSync(root, { recursive: true, force: true }))
  for (const [pid, given] of Object.entries(processes)) {
    const directory = path.join(root, pid)
    mkdirSync(path.join(directory, 'ns'), { recursive: true })
    mkdirSync(path.join(directory, 'net'))
    mkdirSync(path.join(directory, 'fd'))
    symlinkSync(given.exe ?? '/usr/bin/kubelet', path.join(directory, 'exe'))
    symlinkSync(given.netns ?? readlinkSync('/proc/self/ns/net'), path.join(directory, 'ns/net'))
    symlinkSync('socket:[77]', path.join(directory, 'fd/3'))
    const uid = given.uid ?? 0
    writeFileSync(
      path.join(directory, 'status'),
      `Name:\tx\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\nNSpid:\t${given.pids ?? pid}\n`,
    )
    writeFileSync(
      path.join(directory, 'cgroup'),
      given.cgroup ?? '0::/system.slice/kubelet.service\n',
    )
    const socket = '  0: 00000000000000000000000000000000:280A 0:0 0A 0:0 00:0 0 0 0 77 1'
    writeFileSync(path.join(directory, 'net/tcp'), '  sl  local_address rem_address   st\n')
    writeFileSync(
      path.join(directory, 'net/tcp6'),
      given.listens === true ? `head\n${socket}\n` : 'head\n',
    )
  }
  writeFileSync(path.join(root, 'uptime'), '')
  return root
}

const pidsOf = (root: string): readonly number[] => kubeletProcesses(root).map(({ pid }) => pid)

await t.test('the kubelet is known by more than its name', (t) => {
  const uid = '5f0c1c52-8a3e-4bd1-9d6f-0a53b7d8a001'
  const root = pretend(t, {
    10: {},
    11: { exe: '/usr/local/bin/k3s (deleted)', listens: true },
    20: { exe: '/usr/bin/bash' },
    21: { cgroup: `0::/kubepods/burstable/pod${uid}/c1\n`, listens: true },
    22: {
      cgroup: `0::/kubepods.slice/kubepods-pod${uid.replaceAll('-', '_')}.slice/cri-1.scope/kubelet.service\n`,
    },
    23: { cgroup: `0::/../../pod${uid}/c1\n` },
    24: { cgroup: `4:memory:/kubepods/pod${uid}\n0::/\n` },
    30: { uid: 1000 },
    31: { pids: '31\t1' },
    32: { netns: 'net:[1]' },
  })
  t.same(pidsOf(root), [10, 11])
  t.same(
    kubeletProcesses(root).map(({ isListening }) => isListening),
    [false, true],
  )
  t.end()
})

await t.test('one cgroup, or none', (t) => {
  const cgroups = mkdtempSync(path.join(tmpdir(), 'ambit-cgroups-'))
  t.teardown(() => rmSync(cgroups, { recursive: true, force: true }))
  for (const each of ['system.slice/kubelet.service', 'a/nested/k', 'b/twice/k', 'c/twice/k'])
    mkdirSync(path.join(cgroups, each), { recursive: true })
  const place = (root: string, ...given: readonly (readonly [string, boolean?])[]): string => {
    const found = kubeletCgroup(
      { at: cgroups, root: names(root) },
      given.map(([cgroup, isListening = false], index) => ({
        pid: index + 1,
        cgroup,
        isListening,
      })),
    )
    return typeof found === 'string' ? found : path.relative(cgroups, found.directory)
  }
  const SERVICE = '0::/system.slice/kubelet.service'
  t.equal(place('', [SERVICE]), 'system.slice/kubelet.service')
  t.equal(place('', [SERVICE], [SERVICE]), 'system.slice/kubelet.service', 'a child of it is it')
  t.equal(place('', [SERVICE, true], ['0::/user.slice']), 'system.slice/kubelet.service')
  t.match(place('', [SERVICE], ['0::/user.slice']), /several processes.*1, 2/)
  t.match(place('', [SERVICE, true], ['0::/user.slice', true]), /several processes/)
  t.match(place(''), /no process/)
  t.match(place('', ['0::/']), /cannot be told from others/)
  t.match(place('', ['4:memory:/x']), /in no cgroup of v2/)
  t.match(place('', ['0::/../../system.slice/kubelet.service']), /this container's own/)
  t.equal(place('../../..', ['0::/../../nested/k']), 'a/nested/k', 'below a level nobody named')
  t.match(place('../../..', ['0::/../../twice/k']), /several times/)
  t.match(place('../../..', ['0::/../../none/k']), /nowhere/)
  t.end()
})

const skip = missing('root', 'cgroup2')
await t.test(
  'on this machine a program called kubelet is found, and one in a pod is not',
  { skip },
  async (t) => {
    const { cgroup } = findNodeCgroups({ kubeletCgroups: ['/any'], procRoot: '/proc' }, log)
    const top = path.join(cgroup, `ambit-kubelet-${process.pid}`)
    const program = path.join(mkdtempSync(path.join(tmpdir(), 'ambit-kubelet-')), 'kubelet')
    cpSync('/bin/sleep', program)
    const run = async (where: string): Promise<() => Promise<void>> => {
      mkdirSync(where, { recursive: true })
      const child = spawn('sh', ['-c', `echo $$ >'${where}/cgroup.procs' && exec '${program}' 60`])
      const { pid } = child
      await until(() => readlinkSync(`/proc/${pid}/exe`) === program, 'the program')
      return async () => {
        const ended = new Promise((resolve) => child.once('close', resolve))
        child.kill('SIGKILL')
        await ended
        await until(() => removed(where), `${where} to be empty`)
      }
    }
    const pod = path.join(top, 'kubepods/pod5f0c1c52-8a3e-4bd1-9d6f-0a53b7d8a001')
    const endPod = await run(pod)
    const find = (): readonly string[] =>
      findNodeCgroups({ kubeletCgroups: [], procRoot: '/proc' }, log).kubeletCgroups
    t.throws(find, { code: 'AMB_KUBELET_MISSING' }, 'a pod is no kubelet')
    const endKubelet = await run(path.join(top, 'kubelet.service'))
    t.same(find(), [path.join(top, 'kubelet.service')])
    await endKubelet()
    await endPod()
    rmdirSync(path.join(top, 'kubepods'))
    rmdirSync(top)
    rmSync(path.dirname(program), { recursive: true })
    t.throws(() => findNodeCgroups({ kubeletCgroups: [], procRoot: '/nowhere' }, log), {
      code: 'AMB_KUBELET_MISSING',
      message: /\/nowhere is not there/,
    })
  },
)

/** The kernel counts a process out of its cgroup a moment after it has ended. */
function removed(directory: string): boolean {
  try {
    rmdirSync(directory)
    return true
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'EBUSY') return false
    throw thrown
  }
}
