// SPDX-License-Identifier: Apache-2.0
// Machines that Ambit cannot run on, as the command line tells of them: one line with a code and the next step, exit
// code 1, and nothing left behind. What a kernel may lack is played in test/capture/refusals.test.ts.

import t, { type Test } from 'tap'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { labLayout } from '../../lab/machine/layout.ts'
import { type CommandOutput, tryCommand } from '../../lab/machine/command.ts'
import { compileBpf } from '../compile-bpf.ts'
import { cgroup2Mount, missing, uniqueName } from '../helpers.ts'

const skip = missing('root', 'cgroup2')
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const AMBIT = join(ROOT, 'cli/bin/ambit')
const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--']
const AGENT = ['agent', '--node-name', 'node-x', '--kubelet-cgroup', '/any']
const LAB = `m${process.pid}`

/** Runs a command with mounts of its own, after a script that changes them. */
async function withMounts(script: string, argv: readonly string[]): Promise<CommandOutput> {
  const shell = `set -e; ${script}; exec "$@"`
  return await tryCommand([
    'unshare',
    '--mount',
    '--propagation=private',
    'sh',
    '-c',
    shell,
    'sh',
    ...argv,
  ])
}

/** The one line of a failed command; of the agent it is a line of its log. */
function failedWith(t: Test, output: CommandOutput, code: string): string {
  t.equal(output.code, 1, 'exit code 1')
  const lines = `${output.stdout}${output.stderr}`.trim().split('\n')
  t.equal(lines.length, 1, 'one line')
  t.match(lines[0], code)
  return lines[0] ?? ''
}

void t.test(
  'without root every command says so, in one line, and does nothing',
  { skip },
  async (t) => {
    for (const args of [
      [AMBIT, 'lab', 'up', '--name', LAB],
      [AMBIT, 'lab', 'down', '--name', LAB],
      [AMBIT, ...AGENT],
      ['sh', 'scripts/start.sh', '--once'],
      ['sh', 'scripts/test.sh'],
      ['sh', 'scripts/bench.sh'],
    ]) {
      await t.test(args.join(' ').replace(ROOT, ''), async (t) => {
        const line = failedWith(
          t,
          await tryCommand(['env', `--chdir=${ROOT}`, ...NOBODY, ...args]),
          'AMB_NOT_ROOT',
        )
        t.match(line, /root/)
      })
    }
    t.notOk(existsSync(labLayout(LAB).runDir))
  },
)

void t.test(
  'without cgroup v2 it is named, with the command that mounts it',
  { skip },
  async (t) => {
    const unmount = `umount -l ${cgroup2Mount() ?? ''}`
    const up = failedWith(
      t,
      await withMounts(unmount, [AMBIT, 'lab', 'up', '--name', LAB]),
      'AMB_CGROUP2_MISSING',
    )
    t.match(up, /cgroup v2 is not mounted.*mount -t cgroup2/)
    const agent = await withMounts(unmount, [AMBIT, ...AGENT, '--cgroup', cgroup2Mount() ?? ''])
    t.match(failedWith(t, agent, 'AMB_CGROUP2_MISSING'), /is no directory of a cgroup v2 mount/)
  },
)

void t.test('without libbpf it is named, with the package that brings it', { skip }, async (t) => {
  const cache = execFileSync('ldconfig', ['-p'], {
    encoding: 'utf8',
    env: { PATH: '/usr/sbin:/sbin:/usr/bin:/bin' },
  })
  const library = / (\/\S*libbpf\.so\.1)$/m.exec(cache)?.[1]
  if (library === undefined) throw new Error('libbpf is not installed here')
  const scratch = mkdtempSync(join(tmpdir(), 'ambit-machine-'))
  t.teardown(() => rmSync(scratch, { recursive: true }))
  // The library's directory without the library, for that command only.
  const directory = dirname(library)
  const hide = [
    `mount -t tmpfs ambit-test ${scratch}`,
    `mkdir ${scratch}/upper ${scratch}/work`,
    `mount -t overlay ambit-test -o lowerdir=${directory},upperdir=${scratch}/upper,workdir=${scratch}/work ${directory}`,
    `rm ${directory}/libbpf.so*`,
  ].join('; ')
  const line = failedWith(t, await withMounts(hide, [AMBIT, ...AGENT]), 'AMB_LIBBPF_MISSING')
  t.match(line, /apt-get install libbpf1/)
  // Not a minute later, when agents do not get ready.
  const up = await withMounts(hide, [AMBIT, 'lab', 'up', '--name', LAB])
  t.match(failedWith(t, up, 'AMB_LIBBPF_MISSING'), /libbpf\.so\.1/)
  t.notOk(existsSync(labLayout(LAB).runDir), 'nothing was begun')
})

void t.test('given an agent whose BPF object cannot be used', { skip }, async (t) => {
  const scratch = mkdtempSync(join(tmpdir(), 'ambit-machine-'))
  const bpffs = join(scratch, 'bpf')
  mkdirSync(bpffs)
  execFileSync('mount', ['-t', 'bpf', 'ambit-test', bpffs])
  const cgroup = join(cgroup2Mount() ?? '', uniqueName('machine'))
  mkdirSync(cgroup)
  t.teardown(() => {
    execFileSync('umount', [bpffs])
    rmSync(scratch, { recursive: true })
    rmdirSync(cgroup)
  })
  const agentWith = async (object: string): Promise<CommandOutput> => {
    const enter = `echo $$ > ${cgroup}/cgroup.procs`
    return await withMounts(enter, [
      AMBIT,
      ...AGENT,
      '--cgroup',
      cgroup,
      '--bpffs',
      bpffs,
      '--bpf-object',
      object,
    ])
  }
  const untouched = (t: Test): void => {
    t.strictSame(
      readdirSync(bpffs).filter((name) => !name.endsWith('.debug')),
      [],
      'no pin',
    )
    const attached = execFileSync('bpftool', ['--json', 'cgroup', 'show', cgroup], {
      encoding: 'utf8',
    })
    t.match(attached.trim(), /^(\[\])?$/, 'no program')
  }

  await t.test('one that the verifier refuses is quoted with its last lines', async (t) => {
    const object = compileBpf(
      t,
      `#include "capture.bpf.c"
       SEC("cgroup/connect4") int ambit_bad(struct bpf_sock_addr *ctx)
       {
         __u64 key = 0;
         struct ambit_pod *pod = bpf_map_lookup_elem(&pods, &key);
         return pod->flags & 1;
       }`,
    )
    const line = failedWith(t, await agentWith(object), 'AMB_BPF_OBJECT')
    t.match(line, /invalid mem access 'map_value_or_null'/)
    untouched(t)
  })

  await t.test('one that is not there, or no object, is named by its path', async (t) => {
    t.match(
      failedWith(t, await agentWith(`${scratch}/none.o`), 'AMB_BPF_OBJECT'),
      /ENOENT.*none\.o/,
    )
    t.match(failedWith(t, await agentWith('/etc/hostname'), 'AMB_BPF_OBJECT'), /\/etc\/hostname/)
    untouched(t)
  })

  await t.test('without a BPF file system that is named', async (t) => {
    const output = await tryCommand([AMBIT, ...AGENT, '--cgroup', cgroup, '--bpffs', scratch])
    t.match(failedWith(t, output, 'AMB_BPFFS_MISSING'), /mount -t bpf/)
  })
})
