// SPDX-License-Identifier: Apache-2.0
// Chaining into a CNI's configuration, and staying there whatever the CNI does.

import t, { type Test } from 'tap'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import { installCni, type CniInstallation } from '../../agent/cni/index.ts'
import { chainPlugin, unchainPlugin } from '../../agent/cni/conflist.ts'
import { replaceFile } from '../../agent/cni/replace-file.ts'
import { until } from '../support/until.ts'

const CONFIG = { socket: '/run/ambit/cni.sock', excludeNamespaces: ['kube-system'] }
const CONFLIST = `{
    "cniVersion": "1.0.0",
    "name": "lab",
    "plugins": [ { "type": "bridge" }, { "type": "portmap", "capabilities": {"portMappings": true} } ]
}
`

const always = (): Promise<boolean> => Promise.resolve(true)

interface Setting {
  readonly bin: string
  readonly conf: string
  readonly logged: string[]
  /** What was told of why new pods start without the plugin. */
  readonly stood: (string | undefined)[]
  /** `socket` tells the configurations of several agents apart. */
  install(agent?: {
    readonly socket: string
    readonly mayWrite: () => Promise<boolean>
  }): Promise<CniInstallation>
  types(file: string): Promise<readonly string[]>
  /** Waits until the file's plugins are these. */
  until(file: string, types: readonly string[]): Promise<void>
}

async function setUp(test: Test): Promise<Setting> {
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-install-'))
  const bin = path.join(directory, 'bin')
  const conf = path.join(directory, 'net.d')
  const binaryPath = path.join(directory, 'built')
  await writeFile(binaryPath, 'the plugin')
  const logged: string[] = []
  const stood: (string | undefined)[] = []
  const logger = pino({ level: 'debug' }, { write: (line: string) => void logged.push(line) })
  const installations: CniInstallation[] = []
  test.teardown(async () => {
    await Promise.all(installations.map((installation) => installation.close()))
    await rm(directory, { recursive: true, force: true })
  })
  const types = async (file: string): Promise<readonly string[]> => {
    const { plugins } = JSON.parse(await readFile(path.join(conf, file), 'utf8')) as {
      plugins: { type: string }[]
    }
    return plugins.map(({ type }) => type)
  }
  return {
    bin,
    conf,
    logged,
    stood,
    async install({ socket, mayWrite } = { socket: CONFIG.socket, mayWrite: always }) {
      const result = await installCni({
        binaryPath,
        binDirectory: bin,
        confDirectory: conf,
        config: { ...CONFIG, socket },
        logger,
        mayWrite,
        onStanding: (problem) => stood.push(problem),
      })
      if (!result.ok) throw result.error
      installations.push(result.value)
      return result.value
    },
    types,
    until: (file, wanted) =>
      until(
        // A file that is gone or half written has no plugins yet.
        async () => (await types(file).catch(() => [])).join() === wanted.join(),
        `${file} with ${wanted.join()}`,
      ),
  }
}

void t.test('the plugin is added as the last, once, and taken out again', (t) => {
  const chained = chainPlugin(CONFLIST, CONFIG)
  if (!chained.ok || chained.value === undefined) throw new Error('not chained')
  t.same(JSON.parse(chained.value), {
    cniVersion: '1.0.0',
    name: 'lab',
    plugins: [
      { type: 'bridge' },
      { type: 'portmap', capabilities: { portMappings: true } },
      { type: 'ambit-cni', ...CONFIG },
    ],
  })
  t.match(chained.value, /\n {4}"name"/, 'indented as it was')
  t.same(chainPlugin(chained.value, CONFIG), { ok: true, value: undefined })
  const moved = chainPlugin(chained.value, { ...CONFIG, socket: '/elsewhere' })
  t.match(moved, { ok: true, value: /elsewhere/ })
  const unchained = unchainPlugin(chained.value)
  if (!unchained.ok || unchained.value === undefined) throw new Error('not unchained')
  t.same(JSON.parse(unchained.value), JSON.parse(CONFLIST))
  t.same(unchainPlugin(CONFLIST), { ok: true, value: undefined })
  t.end()
})

void t.test('what cannot be chained into is said', (t) => {
  t.match(chainPlugin('{', CONFIG), { ok: false, error: /not JSON/ })
  t.match(chainPlugin('{"type":"bridge"}', CONFIG), { ok: false, error: /plugins is missing/ })
  t.match(chainPlugin('{"plugins":[]}', CONFIG), { ok: false, error: /no plugin to chain behind/ })
  t.end()
})

void t.test('installs into the first list by name and removes without a trace', async (t) => {
  const { bin, conf, install, types } = await setUp(t)
  await mkdir(conf)
  await writeFile(path.join(conf, '20-other.conflist'), CONFLIST)
  await writeFile(path.join(conf, '10-lab.conflist'), CONFLIST, { mode: 0o600 })
  const installation = await install()
  t.equal(installation.chainedIn, '10-lab.conflist')
  t.same(await types('10-lab.conflist'), ['bridge', 'portmap', 'ambit-cni'])
  t.same(await types('20-other.conflist'), ['bridge', 'portmap'])
  t.equal((await stat(path.join(conf, '10-lab.conflist'))).mode & 0o777, 0o600)
  t.equal((await stat(path.join(bin, 'ambit-cni'))).mode & 0o777, 0o755)
  t.ok((await installation.uninstall()).ok)
  t.same(await types('10-lab.conflist'), ['bridge', 'portmap'])
  t.same(await readdir(bin), [])
  t.same((await readdir(conf)).sort(), ['10-lab.conflist', '20-other.conflist'])
})

void t.test('waits for a list to appear, and comes back when the CNI rewrites it', async (t) => {
  const { conf, install, until, logged } = await setUp(t)
  const installation = await install()
  t.equal(installation.chainedIn, undefined)
  t.ok(logged.some((line) => line.includes('has no list of plugins')))
  const file = path.join(conf, '10-lab.conflist')
  for (let round = 0; round < 3; round += 1) {
    await writeFile(file, CONFLIST)
    await until('10-lab.conflist', ['bridge', 'portmap', 'ambit-cni'])
  }
  // Half a file, as a writer without rename leaves it for a moment.
  await writeFile(file, CONFLIST.slice(0, 40))
  await writeFile(file, CONFLIST)
  await until('10-lab.conflist', ['bridge', 'portmap', 'ambit-cni'])
  await rm(file)
  await writeFile(path.join(conf, '30-next.conflist'), CONFLIST)
  await until('30-next.conflist', ['bridge', 'portmap', 'ambit-cni'])
})

void t.test('while a CNI rewrites its list, whoever starts pods reads whole lists', async (t) => {
  const { conf, install, until } = await setUp(t)
  await mkdir(conf)
  const file = path.join(conf, '10-lab.conflist')
  await writeFile(file, CONFLIST)
  await install()
  const seen = new Set<string>()
  let isOver = false
  // As a runtime does before each pod.
  const runtime = (async () => {
    while (!isOver) {
      const { plugins } = JSON.parse(await readFile(file, 'utf8')) as {
        plugins: { type: string }[]
      }
      seen.add(plugins.map(({ type }) => type).join())
    }
  })()
  const rewrite = async (name: string): Promise<void> => {
    const fresh = path.join(conf, '.fresh')
    await writeFile(fresh, CONFLIST.replace('"lab"', `"${name}"`))
    await rename(fresh, file)
  }
  for (let round = 0; round < 20; round += 1) await rewrite(`lab-${round}`)
  await until('10-lab.conflist', ['bridge', 'portmap', 'ambit-cni'])
  await rewrite('last')
  await until('10-lab.conflist', ['bridge', 'portmap', 'ambit-cni'])
  isOver = true
  await runtime
  t.match(JSON.parse(await readFile(file, 'utf8')), { name: 'last' })
  for (const types of seen) t.match(types, /^bridge,portmap(,ambit-cni)?$/, 'once, and as the last')
})

void t.test('why new pods start without the plugin is told, and when that is over', async (t) => {
  const { conf, install, stood, until } = await setUp(t)
  const installation = await install()
  t.match(stood, [/net\.d has no list of plugins .*Does the runtime keep .* elsewhere\?/])
  await writeFile(path.join(conf, '10-lab.conflist'), CONFLIST)
  await until('10-lab.conflist', ['bridge', 'portmap', 'ambit-cni'])
  await installation.look()
  t.strictSame(stood.slice(1), [undefined], 'chained, and told once')
  await writeFile(path.join(conf, '05-single.conf'), '{"type":"bridge"}')
  await installation.look()
  t.match(stood.at(-1), /runtimes use .*05-single\.conf, which is no \.conflist/)
  await rm(path.join(conf, '05-single.conf'))
  await installation.look()
  t.equal(stood.at(-1), undefined)
  await writeFile(path.join(conf, '10-lab.conflist'), '{"plugins":[]}')
  await installation.look()
  t.match(stood.at(-1), /cannot chain into .*10-lab\.conflist: field plugins names no plugin/)
})

void t.test('an agent that is not in charge tells nothing of it', async (t) => {
  const { install, stood } = await setUp(t)
  await install({ socket: '/run/old.sock', mayWrite: () => Promise.resolve(false) })
  t.strictSame(stood, [])
})

void t.test('what a CNI has written since it was read is not replaced', async (t) => {
  const { conf } = await setUp(t)
  await mkdir(conf)
  const file = path.join(conf, '10-lab.conflist')
  await writeFile(file, 'newer', { mode: 0o640 })
  t.equal(await replaceFile(file, 'older', 'older and ours'), false)
  t.equal(await readFile(file, 'utf8'), 'newer')
  t.same(await readdir(conf), ['10-lab.conflist'], 'and nothing of ours is left')
  t.equal(await replaceFile(file, 'newer', 'newer and ours'), true)
  t.equal(await readFile(file, 'utf8'), 'newer and ours')
  t.equal((await stat(file)).mode & 0o777, 0o640)
})

void t.test('moves to a list that comes before', async (t) => {
  const { conf, install, until } = await setUp(t)
  await install()
  await writeFile(path.join(conf, '10-lab.conflist'), CONFLIST)
  await until('10-lab.conflist', ['bridge', 'portmap', 'ambit-cni'])
  await writeFile(path.join(conf, '05-first.conflist'), CONFLIST)
  await until('05-first.conflist', ['bridge', 'portmap', 'ambit-cni'])
  await until('10-lab.conflist', ['bridge', 'portmap'])
})

void t.test('says when runtimes would use a file that cannot be chained into', async (t) => {
  const { conf, install, logged, until } = await setUp(t)
  await mkdir(conf)
  await writeFile(path.join(conf, '05-single.conf'), '{"type":"bridge"}')
  await writeFile(path.join(conf, '10-lab.conflist'), CONFLIST)
  await install()
  await until('10-lab.conflist', ['bridge', 'portmap', 'ambit-cni'])
  t.ok(logged.some((line) => line.includes('runtimes use') && line.includes('05-single.conf')))
})

void t.test('a plugin that was not built is an error with the next step', async (t) => {
  const { bin, conf } = await setUp(t)
  const result = await installCni({
    binaryPath: '/nowhere/ambit-cni',
    binDirectory: bin,
    confDirectory: conf,
    config: CONFIG,
    logger: pino({ level: 'silent' }),
    mayWrite: always,
  })
  t.match(result, { ok: false, error: { code: 'AMB_CNI_INSTALL', hint: /make -C native\/cni/ } })
  t.same(await readdir(bin), [], 'nothing half done')
})

void t.test('of two agents beside each other, the later keeps the plugin its way', async (t) => {
  const { conf, install, until } = await setUp(t)
  await mkdir(conf)
  await writeFile(path.join(conf, '10-lab.conflist'), CONFLIST)
  let isSucceeded = false
  const asked = Promise.withResolvers<undefined>()
  await install({
    socket: '/run/old.sock',
    mayWrite: () => {
      if (isSucceeded) asked.resolve(undefined)
      return Promise.resolve(!isSucceeded)
    },
  })
  isSucceeded = true
  await install({ socket: '/run/new.sock', mayWrite: always })
  // The CNI writes it anew: both are called by their watch, one answers.
  await writeFile(path.join(conf, '10-lab.conflist'), CONFLIST)
  await asked.promise
  await until('10-lab.conflist', ['bridge', 'portmap', 'ambit-cni'])
  const text = await readFile(path.join(conf, '10-lab.conflist'), 'utf8')
  t.match(text, /new\.sock/)
  t.notMatch(text, /old\.sock/)
})
