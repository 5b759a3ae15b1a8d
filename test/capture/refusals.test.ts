// SPDX-License-Identifier: Apache-2.0
// What openCapture() says when something it needs is missing: the object, the reason, and nothing left behind.

import { existsSync, mkdtempSync, readdirSync, rmdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import t from 'tap'
import { compileBpf } from '../compile-bpf.ts'
import { missing } from '../helpers.ts'
import { programsAt } from './support/kernel.ts'
import { BPF_OBJECT, World } from './support/world.ts'

const skip = missing('root', 'cgroup2')

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test('openCapture() refuses', { skip }, async (t) => {
  const world = new World(t)
  const scratch = mkdtempSync(`${tmpdir()}/ambit-refusals-`)
  t.teardown(() => rmSync(scratch, { recursive: true }))

  async function refusal(
    overrides: Record<string, unknown>,
    cgroup: 'agent' | 'other' = 'agent',
  ): Promise<unknown> {
    const agent = world.agent(cgroup)
    const failure = await agent.open(overrides)
    await agent.process.stop()
    t.strictSame(pins(), [], 'no pin stays')
    return failure
  }

  function pins(): readonly string[] {
    return readdirSync(world.bpffs).filter((name) => !name.endsWith('.debug'))
  }

  await t.test('a process without root rights', async (t) => {
    const agent = world.agent()
    await agent.process.ask('setuid', 65_534)
    t.match(await agent.open(), { code: 'AMB_NOT_ROOT' })
    await agent.process.stop()
  })

  await t.test('a cgroup path that is not on cgroup v2', async (t) => {
    t.match(await refusal({ cgroupPath: scratch }), {
      code: 'AMB_CGROUP2_MISSING',
      message: new RegExp(scratch),
    })
    t.match(await refusal({ cgroupPath: '/no/such/place' }), { code: 'AMB_CGROUP2_MISSING' })
  })

  await t.test('a pin directory that is not on a BPF file system', async (t) => {
    t.match(await refusal({ bpffsDir: scratch }), {
      code: 'AMB_BPFFS_MISSING',
      message: new RegExp(scratch),
    })
  })

  await t.test('one that is missing there, and that nobody may make', async (t) => {
    const below = `${scratch}/a/b`
    t.match(await refusal({ bpffsDir: below }), {
      code: 'AMB_BPFFS_MISSING',
      message: new RegExp(`${below} is not on a BPF file system: ${scratch} is of another kind`),
    })
    t.notOk(existsSync(`${scratch}/a`), 'nothing is made elsewhere')
    // bpffs takes no dots in names.
    t.match(await refusal({ bpffsDir: `${world.bpffs}/a.b` }), {
      code: 'AMB_BPFFS_MISSING',
      message: /cannot make .*a\.b/,
    })
  })

  await t.test('a machine without libbpf', async (t) => {
    t.match(await refusal({ libbpf: 'libbpf-is-not-here.so.1' }), {
      code: 'AMB_LIBBPF_MISSING',
      message: /libbpf-is-not-here/,
    })
  })

  await t.test(
    'a kernel without a feature, which it names with the version that has it',
    async (t) => {
      t.match(await refusal({ wantImpossible: true }), {
        code: 'AMB_KERNEL_FEATURE',
        message: /lacks a helper of the future \(Linux 99\.0 has it; bpf\(BPF_PROG_LOAD\): EINVAL/,
      })
    },
  )

  await t.test('an object that is missing', async (t) => {
    t.match(await refusal({ bpfObjectPath: `${scratch}/none.o` }), {
      code: 'AMB_BPF_OBJECT',
      message: /bpf_object__open: ENOENT: .*none\.o/,
    })
  })

  await t.test('an object built from other structs', async (t) => {
    const object = compileBpf(
      t,
      '#include <linux/bpf.h>\nchar LICENSE[] __attribute__((section("license"))) = "GPL"; const volatile int x; int get(void) { return x; }',
    )
    t.match(await refusal({ bpfObjectPath: object }), {
      code: 'AMB_BPF_OBJECT',
      message: /built from other structs: struct ambit_pod_address is missing/,
    })
  })

  await t.test('an object the verifier refuses, quoting its last lines', async (t) => {
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
    t.match(await refusal({ bpfObjectPath: object }), {
      code: 'AMB_BPF_OBJECT',
      message: /invalid mem access 'map_value_or_null'/,
    })
  })

  await t.test('an agent outside the cgroup it attaches to', async (t) => {
    t.match(await refusal({ cgroupPath: `${world.cgroup}/a` }), { code: 'AMB_CGROUP_OUTSIDE' })
    t.equal(programsAt(`${world.cgroup}/a`), 0, 'and takes its programs off again')
  })

  await t.test('but makes its directory on a BPF file system, for root alone', async (t) => {
    const bpffsDir = `${world.bpffs}/of/ambit`
    const agent = await world.openAgent({ bpfObjectPath: BPF_OBJECT, bpffsDir })
    t.equal(statSync(bpffsDir).mode & 0o777, 0o700)
    await agent.process.ask('closeCapture', true)
    t.strictSame(readdirSync(bpffsDir), [])
    rmdirSync(bpffsDir)
    rmdirSync(`${world.bpffs}/of`)
  })

  await t.test('and opens when all is there', async (t) => {
    const agent = await world.openAgent({ bpfObjectPath: BPF_OBJECT })
    await agent.process.ask('closeCapture', true)
    t.strictSame(pins(), [])
  })
})
