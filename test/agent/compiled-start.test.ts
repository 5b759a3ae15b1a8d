// SPDX-License-Identifier: Apache-2.0
// What the agent's threads carry with them: never the compiler of TypeScript, and in a worker no library that only the main thread
// needs. Each is megabytes for each thread on each node.

import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { COMPILER } from '../../agent/memory/compiled-start.ts'

const run = promisify(execFile)
const support = (file: string): string => path.join(import.meta.dirname, 'support', file)
const root = path.join(import.meta.dirname, '../..')

interface Started {
  readonly pid: number
  readonly main: boolean
  readonly worker: boolean
}

/** Starts a program as the agent starts; its own id, and what it said. */
async function start(cache: string): Promise<{ readonly pid: number | undefined; said: Started }> {
  const env = { ...process.env, NODE_COMPILE_CACHE: cache }
  const running = run(process.execPath, [support('compiled-process.ts')], { env })
  const { stdout } = await running
  // The whole of the output is one line, which this program of ours has printed.
  return { pid: running.child.pid, said: JSON.parse(stdout) as Started }
}

async function directory(t: Test): Promise<string> {
  const made = await mkdtemp(path.join(tmpdir(), 'ambit-compiled-'))
  t.teardown(() => rm(made, { recursive: true }))
  return made
}

void t.test(
  'an agent that meets its source for the first time runs without the compiler',
  async (t) => {
    const { pid, said } = await start(await directory(t))
    t.equal(said.pid, pid, 'the process is the one that was started')
    t.notOk(said.main)
    t.notOk(said.worker)
  },
)

void t.test(
  'an agent that may not keep what it compiled starts once, with the compiler',
  async (t) => {
    const file = path.join(await directory(t), 'file')
    await writeFile(file, '')
    const { pid, said } = await start(path.join(file, 'cache'))
    t.equal(said.pid, pid)
    t.ok(said.main)
  },
)

void t.test('a thread loads what it needs, and no more', async (t) => {
  const packages = async (file: string): Promise<readonly string[]> => {
    const { stdout } = await run(process.execPath, [
      support('packages-process.ts'),
      path.join(root, file),
    ])
    const names: unknown = JSON.parse(stdout)
    if (!Array.isArray(names)) throw new TypeError(`Cannot read packages: ${stdout}`)
    // What a package is made of comes with it, and its names change with its versions.
    return names
      .map(String)
      .filter((name) => dependencies.has(name))
      .toSorted()
  }
  const { default: manifest } = (await import('../../package.json', {
    with: { type: 'json' },
  })) as { readonly default: { readonly dependencies: Readonly<Record<string, string>> } }
  const dependencies = new Set(Object.keys(manifest.dependencies))
  t.strictSame(await packages('agent/proxy/worker/data-plane-worker.ts'), ['koffi', 'pino'])
  t.strictSame(await packages('native/netns-worker.ts'), ['koffi'])
  const main = await packages('agent/main.ts')
  t.ok(main.includes('fastify'), 'what the main thread loads is seen')
  t.notOk(main.includes('@kubernetes/client-node'), 'the client of Kubernetes is our own')
})

void t.test(
  'a package as it is built has all compiled, with the flags of each program',
  async (t) => {
    const said = 'The compiler is there:'
    // Any thread of the program, as it ends.
    const look = `process.on('exit', () => process.stderr.write('${said} ' + process.moduleLoadList.includes('${COMPILER}')))`
    // What the command brings itself is what is tried.
    const { NODE_COMPILE_CACHE: _, ...others } = process.env
    const env = {
      ...others,
      NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(look)}`,
    }
    for (const args of [
      ['agent', '--help'],
      ['agent', '--compile'],
      ['controller', '--help'],
      ['waypoint-proxy', '--help'],
      ['lab', '--help'],
    ]) {
      const { stderr } = await run(path.join(root, 'cli/bin/ambit'), args, { env })
      t.match(stderr, `${said} false`, args.join(' '))
    }
  },
)
