// SPDX-License-Identifier: Apache-2.0
// Labs come and go: nothing is left of one that was up, half made, crashed or interrupted; two live side by side;
// what is wrong in a manifest or on the command line is said in one line.

import t from 'tap'
import { spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createLab, takeDown } from '../../lab/cluster/index.ts'
import { labLayout } from '../../lab/machine/layout.ts'
import { readState } from '../../lab/cluster/state.ts'
import { command, type CommandOutput, ipBatch, tryCommand } from '../../lab/machine/command.ts'
import { missing } from '../helpers.ts'
import { ECHO_SERVER, IDLE, podManifest, testLab, uniqueLabName } from './fixture.ts'

const skip = missing('root', 'cgroup2')
const AMBIT = fileURLToPath(new URL('../../cli/bin/ambit', import.meta.url))
const ONE_LINE_ERROR = /^ambit: [^\n]+\[AMB_\w+\]\n$/

async function ambit(...args: readonly string[]): Promise<CommandOutput> {
  return await tryCommand([AMBIT, ...args], { timeoutMs: 60_000 })
}

/** Everything on the machine that has a lab's name in it. */
function traces(name: string): readonly string[] {
  const { cgroup, runDir } = labLayout(name)
  const processes = readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && entry !== String(process.pid))
    .filter((pid) => {
      try {
        // A zombie has ended: it waits for its parent only, and nobody else can remove it.
        if (/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))) return false
        return readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`/ambit-${name}/`)
      } catch {
        return false
      }
    })
  return [
    ...(existsSync('/run/netns') ? readdirSync('/run/netns') : []).filter((netns) =>
      netns.startsWith(`ambit-${name}-`),
    ),
    ...readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(runDir)),
    ...[cgroup, runDir].filter((path) => existsSync(path)),
    ...processes.map((pid) => `process ${pid}`),
  ]
}

await t.test('labs', { skip }, async (t) => {
  await t.test('leave nothing behind when they are taken down by the command line', async (t) => {
    const name = uniqueLabName()
    t.teardown(async () => await takeDown(name))
    const directory = mkdtempSync(join(tmpdir(), 'ambit-manifests-'))
    t.teardown(() => rmSync(directory, { recursive: true }))
    writeFileSync(join(directory, 'web.json'), podManifest('web', ECHO_SERVER))
    const up = await ambit(
      'lab',
      'up',
      '--name',
      name,
      '--nodes',
      '1',
      '--no-mesh',
      '-f',
      directory,
    )
    t.equal(up.stderr, '')
    t.equal(up.code, 0)
    t.match(up.stdout, /Pod default\/web applied[^]*lab "[^"]+" is up/)
    const kubeconfig = (await ambit('lab', 'kubeconfig', '--name', name)).stdout.trim()
    t.match(await command(['kubectl', '--kubeconfig', kubeconfig, 'get', 'nodes']), /node-a +Ready/)
    const kubectl = await ambit(
      'lab',
      'kubectl',
      '--name',
      name,
      '--',
      'get',
      'pod',
      'web',
      '-o',
      'name',
    )
    t.equal(kubectl.stdout, 'pod/web\n')
    const exec = await ambit(
      'lab',
      'exec',
      '--name',
      name,
      'default/web',
      '--',
      'sh',
      '-c',
      'hostname; exit 3',
    )
    t.strictSame([exec.stdout, exec.code], ['web\n', 3])
    const onNode = await ambit(
      'lab',
      'node-exec',
      '--name',
      name,
      'node-a',
      '--',
      'cat',
      '/proc/self/cgroup',
    )
    t.match(onNode.stdout, `0::/ambit-${name}/node-a/exec`)
    const status = await ambit('lab', 'status', '--name', name, '-o', 'json')
    t.match(JSON.parse(status.stdout), [
      { name, state: 'up', pods: [{ name: 'web', node: 'node-a' }] },
    ])
    const again = await ambit('lab', 'up', '--name', name)
    t.equal(again.code, 1)
    t.match(again.stderr, ONE_LINE_ERROR)
    t.match(again.stderr, /already there.*AMB_LAB_EXISTS/)
    t.ok(traces(name).length > 0)
    const down = await ambit('lab', 'down', '--name', name)
    t.equal(down.code, 0)
    t.match(down.stdout, /nothing is left/)
    t.strictSame(traces(name), [])
    const repeated = await ambit('lab', 'down', '--name', name)
    t.strictSame([repeated.code, repeated.stdout], [0, `lab "${name}": nothing was there\n`])
  })

  await t.test('of one node', async (t) => {
    const lab = await testLab(t, { nodes: 1 })

    await t.test('capture writes a complete file when it is interrupted', async (t) => {
      const file = join(tmpdir(), `${lab.name}.pcap`)
      t.teardown(() => rmSync(file, { force: true }))
      const capture = spawn(AMBIT, ['lab', 'capture', '--name', lab.name, 'node-a', '-w', file])
      const exited = new Promise<number | null>((done) => capture.on('exit', done))
      await new Promise<void>((listening) => {
        capture.stderr.on('data', (text: Buffer) => {
          if (String(text).includes('listening on')) listening()
        })
      })
      await lab.nodeExec('node-a', ['curl', '-s', '--max-time', '2', 'http://172.30.0.2:1/'])
      // What it has not read yet when it is told to end is lost.
      await lab.waitFor('the call in the file', async () => {
        const { stdout } = await tryCommand(['tcpdump', '-n', '-r', file])
        return stdout.includes('172.30.0.2.1:') ? true : undefined
      })
      capture.kill('SIGINT')
      t.equal(await exited, 0)
      t.match(await command(['tcpdump', '-n', '-r', file]), '172.30.0.2.1:')
    })

    await t.test('refuse what the API refuses, with file, line and field', async (t) => {
      await t.rejects(
        lab.apply(
          'apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec:\n  containers:\n    - image: host\n',
        ),
        { code: 'AMB_BAD_MANIFEST', message: /manifest:7: .*spec\.containers\[0\]\.name/ },
      )
      await t.rejects(lab.apply('apiVersion: v1\nkind: Pode\nmetadata: {name: x}\n'), {
        message: /manifest:2: field kind: the cluster has no "Pode" in v1/,
      })
      await t.rejects(lab.apply('apiVersion: nope.example/v1\nkind: Pod\nmetadata: {name: x}\n'), {
        message: /manifest:1: field apiVersion: the cluster has no/,
      })
    })
  })

  await t.test('live side by side, and one goes without touching the other', async (t) => {
    const base = uniqueLabName()
    // One name begins with the other: what belongs to whom must not be guessed by prefix.
    const [one, other] = await Promise.all([
      testLab(t, { name: base, nodes: 1 }),
      testLab(t, { name: `${base}-node-a`, nodes: 1 }),
    ])
    await Promise.all([
      one.apply(podManifest('same', IDLE)),
      other.apply(podManifest('same', ECHO_SERVER)),
    ])
    await Promise.all([one.waitForPods(), other.waitForPods()])
    await one.down()
    t.strictSame(
      traces(base).filter((trace) => !trace.includes('node-a')),
      [],
    )
    const seen = await other.exec('same', ['curl', '-s', 'http://127.0.0.1:8080/'])
    t.equal(seen.stdout, '127.0.0.1 same')
    await other.down()
    t.strictSame(traces(`${base}-node-a`), [])
  })

  await t.test(
    'go completely after a crash, when records are lost, and when half made',
    async (t) => {
      const crashed = await createLab({ name: uniqueLabName(), nodes: 1, mesh: false })
      await crashed.apply(podManifest('orphan', IDLE))
      await crashed.waitForPods()
      for (const each of readState(crashed.layout)?.processes ?? [])
        process.kill(each.pid, 'SIGKILL')
      rmSync(crashed.layout.stateFile)
      t.strictSame((await takeDown(crashed.name)).leftovers, [])
      t.strictSame(traces(crashed.name), [])

      const half = labLayout(uniqueLabName())
      mkdirSync(half.bpfDir, { recursive: true })
      mkdirSync(join(half.cgroup, 'node-a', 'kubelet'), { recursive: true })
      await command(['mount', '-t', 'bpf', 'ambit-lab', half.bpfDir])
      await ipBatch([`netns add ${half.fabricNetns}`])
      t.strictSame((await takeDown(half.name)).leftovers, [])
      t.strictSame(traces(half.name), [])
    },
  )

  await t.test('are rolled back when up is interrupted or cannot go on', async (t) => {
    const name = uniqueLabName()
    t.teardown(async () => await takeDown(name))
    const child = spawn(AMBIT, ['lab', 'up', '--name', name, '--no-mesh'])
    let said = ''
    child.stderr.on('data', (text: Buffer) => (said += String(text)))
    const exited = new Promise<number | null>((done) => child.on('exit', done))
    child.stdout.once('data', () => child.kill('SIGINT'))
    t.equal(await exited, 1)
    t.match(said, /SIGINT: removing[^]*interrupted/)
    t.strictSame(traces(name), [])
  })

  await t.test(
    'are not begun for a manifest that is wrong: file, line and field are named',
    async (t) => {
      const directory = mkdtempSync(join(tmpdir(), 'ambit-bad-'))
      t.teardown(() => rmSync(directory, { recursive: true }))
      const name = uniqueLabName()
      const refused = async (text: string): Promise<string> => {
        const file = join(directory, 'bad.yaml')
        writeFileSync(file, text)
        const result = await ambit('lab', 'up', '--name', name, '--no-mesh', '-f', file)
        t.equal(result.code, 1)
        t.match(result.stderr, ONE_LINE_ERROR)
        t.strictSame(traces(name), [])
        return result.stderr
      }
      t.match(
        await refused('apiVersion: v1\nkind: Pod\nmetadata: {name: [x}\n'),
        /bad\.yaml:3: this is not YAML/,
      )
      t.match(
        await refused('apiVersion: v1\n\nmetadata: {name: x}\n'),
        /bad\.yaml:1: field kind is missing/,
      )
      t.match(
        await refused('apiVersion: v1\nkind: Pod\nmetadata:\n  labels: {}\n'),
        /bad\.yaml:4: field metadata\.name is missing/,
      )
      t.match(
        (await ambit('lab', 'up', '-f', '/no/such/file')).stderr,
        /Cannot read \/no\/such\/file/,
      )
    },
  )

  await t.test('explain wrong usage with exit code 2, and absence with 1', async (t) => {
    const wrong = [
      ['lab', 'up', '--nodes', '0'],
      ['lab', 'up', '--name', 'Bad_Name'],
      ['lab', 'exec'],
      ['lab', 'bogus'],
      ['lab', 'capture', 'node-a'],
    ]
    const results = await Promise.all(wrong.map((args) => ambit(...args)))
    for (const [at, args] of wrong.entries()) {
      t.equal(results[at]?.code, 2, args.join(' '))
      t.match(results[at]?.stderr, ONE_LINE_ERROR, args.join(' '))
    }
    const absent = await ambit('lab', 'exec', '--name', 'never-there', 'a/b', '--', 'true')
    t.equal(absent.code, 1)
    t.match(absent.stderr, /it is not up.*ambit lab up.*AMB_LAB_MISSING/)
    const helps = await Promise.all(
      [['--help'], ['lab', '--help'], ['lab', 'up', '--help'], ['lab', 'exec', '--help']].map(
        (args) => ambit(...args),
      ),
    )
    for (const help of helps) {
      t.equal(help.code, 0)
      t.match(help.stdout, 'Usage: ambit')
    }
    const user = await tryCommand([
      'setpriv',
      '--reuid=65534',
      '--clear-groups',
      AMBIT,
      'lab',
      'up',
    ])
    t.equal(user.code, 1)
    t.match(user.stderr, /needs root.*AMB_NOT_ROOT/)
  })
})
