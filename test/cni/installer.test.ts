// SPDX-License-Identifier: Apache-2.0
// Chaining into a CNI's configuration, and staying there whatever the CNI does.

import t, { type Test } from 'tap'
import { execFileSync } from 'node:child_process'
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import { installCni, MembersKeeper, type CniInstallation } from '../../agent/cni/index.ts'
import { readMembers, writeMembers } from '../../agent/cni/members-file.ts'
import { chainPlugin, unchainPlugin } from '../../agent/cni/conflist.ts'
import { replaceFile } from '../../agent/cni/replace-file.ts'
import { leaveNode } from '../../agent/start-cni.ts'
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

void t.test('what others have written keeps its numbers to the digit', (t) => {
  const numbers = '"mtu": 9223372036854775807, "rate": 1.0, "burst": 1E400, "less": -0'
  const list = `{"cniVersion":"1.0.0","plugins":[{"type":"bandwidth", ${numbers}}]}`
  const chained = chainPlugin(list, CONFIG)
  if (!chained.ok || chained.value === undefined) throw new Error('not chained')
  const written = (text: string): readonly string[] =>
    text.match(/(?<=": )[-\d.E]+(?=[,\n}])/g) ?? []
  const wanted = ['9223372036854775807', '1.0', '1E400', '-0']
  t.strictSame(written(chained.value), wanted)
  t.same(chainPlugin(chained.value, CONFIG), { ok: true, value: undefined })
  const unchained = unchainPlugin(chained.value)
  t.strictSame(written(unchained.ok ? (unchained.value ?? '') : ''), wanted)
  t.end()
})

void t.test('what cannot be chained into is said', (t) => {
  t.match(chainPlugin('{', CONFIG), { ok: false, error: /not JSON/ })
  t.match(chainPlugin('{"type":"bridge"}', CONFIG), { ok: false, error: /plugins is missing/ })
  t.match(chainPlugin('{"plugins":[]}', CONFIG), { ok: false, error: /no plugin to chain behind/ })
  const list = (versions: object): string =>
    JSON.stringify({ ...versions, plugins: [{ type: 'bridge' }] })
  for (const versions of [{}, { cniVersion: 1 }, { cniVersions: [] }])
    t.match(chainPlugin(list(versions), CONFIG), { ok: false, error: /cniVersion is missing: amb/ })
  for (const [cniVersion, cniVersions] of [
    ['0.2.0', undefined],
    ['2.0.0', undefined],
    ['1.0', undefined],
    ['1.0.0', ['1.0.0', '1.10.0', '1.1.0']],
    ['x', undefined],
  ] as const)
    t.match(chainPlugin(list({ cniVersion, cniVersions }), CONFIG), {
      ok: false,
      error: /cniVersion is ".*": ambit-cni takes 0\.3\.0, 0\.3\.1, 0\.4\.0, 1\.0\.0, 1\.1\.0/,
    })
  for (const versions of [
    { cniVersion: '0.3.0' },
    { cniVersion: '0.4.0', cniVersions: ['0.2.0', '1.1.0', '1.0.0'] },
  ])
    t.match(chainPlugin(list(versions), CONFIG), { ok: true, value: /ambit-cni/ })
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

void t.test(
  'a list behind what is none is chained into, and what comes before it is told',
  async (t) => {
    const odd: Readonly<Record<string, readonly [(file: string) => unknown, RegExp | undefined]>> =
      {
        // As runtimes do, who look for files.
        'a directory': [(file) => mkdir(file), undefined],
        'a link that leads nowhere': [(file) => symlink('/nowhere', file), /ENOENT/],
        'a link to a directory': [(file) => symlink('/', file), /no regular file/],
        'a FIFO': [(file) => execFileSync('mkfifo', [file]), /no regular file/],
        'an empty file': [(file) => writeFile(file, ''), /not JSON/],
        'half a list': [(file) => writeFile(file, CONFLIST.slice(0, 40)), /not JSON/],
        'a list of a version that the plugin refuses': [
          (file) => writeFile(file, CONFLIST.replace('1.0.0', '0.2.0')),
          /cniVersion is "0\.2\.0"/,
        ],
        'a huge file': [
          (file) => writeFile(file, ' '.repeat(1024 * 1024 + 1)),
          /larger than 1 MiB/,
        ],
      }
    for (const [what, [make, problem]] of Object.entries(odd)) {
      const { bin, conf, install, stood, types } = await setUp(t)
      await mkdir(conf)
      await make(path.join(conf, '00-odd.conflist'))
      await writeFile(path.join(conf, '10-lab.conflist'), CONFLIST)
      const installation = await install()
      t.equal(installation.chainedIn, '10-lab.conflist', what)
      t.same(await types('10-lab.conflist'), ['bridge', 'portmap', 'ambit-cni'], what)
      t.match(stood, [problem], what)
      t.match(await installation.uninstall(), { ok: true }, what)
      t.same(await types('10-lab.conflist'), ['bridge', 'portmap'], what)
      t.same(await readdir(bin), [], what)
    }
  },
)

void t.test('a link to a list stays one', async (t) => {
  const { conf, install, types } = await setUp(t)
  await mkdir(path.join(conf, 'elsewhere'), { recursive: true })
  await writeFile(path.join(conf, 'elsewhere/list'), CONFLIST)
  const link = path.join(conf, '10-lab.conflist')
  await symlink('elsewhere/list', link)
  const installation = await install()
  t.ok((await lstat(link)).isSymbolicLink())
  t.same(await types('elsewhere/list'), ['bridge', 'portmap', 'ambit-cni'])
  t.match(await installation.uninstall(), { ok: true })
  t.ok((await lstat(link)).isSymbolicLink())
  t.same(await types('elsewhere/list'), ['bridge', 'portmap'])
})

void t.test('a binary that was cut off, or may not be run, is put back', async (t) => {
  const { bin, install, logged } = await setUp(t)
  const installation = await install()
  const binary = path.join(bin, 'ambit-cni')
  for (const spoil of [
    () => writeFile(binary, 'the'),
    () => chmod(binary, 0o644),
    () => rm(binary),
  ]) {
    await spoil()
    await installation.look()
    t.equal(await readFile(binary, 'utf8'), 'the plugin')
    t.equal((await stat(binary)).mode & 0o777, 0o755)
  }
  t.equal(logged.filter((line) => line.includes('put it back')).length, 3)
})

void t.test('what a killed agent was writing does not stay', async (t) => {
  const { bin, conf, install } = await setUp(t)
  const left = (directory: string, name: string): string =>
    path.join(directory, `.${name}.1.ambit-tmp`)
  for (const directory of [bin, conf]) await mkdir(directory)
  const long = new Date(Date.now() - 120_000)
  for (const file of [left(bin, 'ambit-cni'), left(conf, 'a.conflist'), left(conf, 'young')])
    await writeFile(file, '')
  for (const file of [left(bin, 'ambit-cni'), left(conf, 'a.conflist')])
    await utimes(file, long, long)
  const installation = await install()
  t.same(await readdir(bin), ['ambit-cni'])
  t.same(await readdir(conf), ['.young.1.ambit-tmp'], 'which another may be writing just now')
  t.match(await installation.uninstall(), { ok: true })
  t.same([...(await readdir(bin)), ...(await readdir(conf))], [])
})

void t.test(
  'a list that cannot be changed keeps what it calls on the node, and no other list from being changed',
  async (t) => {
    const { bin, conf, install, types } = await setUp(t)
    await mkdir(conf)
    await writeFile(path.join(conf, '20-other.conflist'), CONFLIST)
    const installation = await install()
    const file = path.join(conf, 'ambit-members')
    await writeMembers(file, ['shop'], 1)
    const members = await MembersKeeper.start({
      file,
      epoch: 1,
      mayWrite: always,
      known: () => undefined,
      logger: pino({ level: 'silent' }),
    })
    t.teardown(() => members.close())
    const held = await readFile(path.join(conf, '20-other.conflist'))
    // No room for the name of what would replace it.
    const name = `10-${'x'.repeat(240)}.conflist`
    await writeFile(path.join(conf, name), held)
    await t.rejects(leaveNode(installation, members), {
      code: 'AMB_CNI_INSTALL',
      message: /10-x+\.conflist: .*ENAMETOOLONG/,
    })
    t.same(await types('20-other.conflist'), ['bridge', 'portmap'])
    t.same(await readdir(bin), ['ambit-cni'])
    t.strictSame(
      await readMembers(file),
      ['shop'],
      'by whose age the plugin finds that it was left',
    )
    await rm(path.join(conf, name))
    await leaveNode(installation, members)
    t.same([...(await readdir(bin)), ...(await readdir(conf))], ['20-other.conflist'])
  },
)

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
