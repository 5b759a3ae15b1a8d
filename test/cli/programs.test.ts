// SPDX-License-Identifier: Apache-2.0
// What the command says of its words and flags: help where it is asked for, and wrong usage as one coded line.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))

const ambit = (...args: readonly string[]): { code: number | null; out: string; err: string } => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    encoding: 'utf8',
    timeout: 30_000,
    env: { PATH: process.env.PATH },
  })
  return { code: status, out: stdout, err: stderr }
}

void t.test('--help shows the flags of the program itself', (t) => {
  for (const [program, flag] of [
    ['agent', '--node-name'],
    ['controller', '--trusted-node-accounts'],
  ] as const) {
    const { code, out } = ambit(program, '--help')
    t.equal(code, 0)
    t.match(out, flag)
  }
  t.end()
})

void t.test('wrong usage is one line that names the flag, with exit code 2', (t) => {
  for (const [args, named] of [
    [['agent'], '--node-name'],
    [['agent', '--node-name', 'a', '--workers', 'none'], '--workers'],
    [['controller', '--bogus'], '--bogus'],
  ] as const) {
    const { code, out, err } = ambit(...args)
    t.equal(code, 2)
    t.equal(out, '')
    t.match(err, named)
    t.match(err, /^ambit: Cannot run ambit (agent|controller): [^\n]* \[AMB_USAGE\]\n$/)
  }
  t.end()
})

void t.test('a command that there is not is named, and a group by itself shows its help', (t) => {
  t.strictSame(ambit('lab', 'statsu'), {
    code: 2,
    out: '',
    err: "ambit: unknown command 'statsu' (Did you mean status?). Run the command with --help. [AMB_USAGE]\n",
  })
  const { code, out, err } = ambit('lab')
  t.equal(code, 0)
  t.match(out, /^Usage: ambit lab /)
  t.equal(err, '')
  t.end()
})

void t.test('a reader that has enough ends the command without a word', (t) => {
  const { status, stderr } = spawnSync(
    'bash',
    ['--norc', '-o', 'pipefail', '-c', '"$0" "$1" completion bash | true', process.execPath, MAIN],
    { encoding: 'utf8', timeout: 30_000, env: { PATH: process.env.PATH } },
  )
  t.equal(stderr, '')
  t.equal(status, 0)
  t.end()
})
