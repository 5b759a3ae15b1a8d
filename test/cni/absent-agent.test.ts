// SPDX-License-Identifier: Apache-2.0
// The CNI plugin's binary while no agent answers: who starts, by the file that the agent left, who stays closed, and what
// becomes of it all when the file is not as it should be, or nobody is left to write it.

import t, { type Test } from 'tap'
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  rename,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { execFileSync } from 'node:child_process'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { pino } from 'pino'
import { startCniServer } from '../../agent/cni/index.ts'
import { writeMembers } from '../../agent/cni/members-file.ts'
import { AmbitError } from '../../mesh/errors.ts'
import { err, ok } from '../../mesh/result.ts'
import { missing } from '../helpers.ts'
import {
  pluginBinary,
  pluginConfig,
  type PluginRun,
  PREVIOUS_RESULT,
  runPlugin,
  sanitizedPluginBinary,
} from './plugin.ts'

const skip = missing('root')
if (skip === false) pluginBinary()

const UID = '5f0c1c52-8a3e-4bd1-9d6f-0a53b7d8a001'
const AGENT_LOGS = 'ambit-system_ambit-agent-x7k2p_0e8a1b6e-0000-4000-8000-000000000000'
const PLAIN = { code: 0, json: PREVIOUS_RESULT }
const CLOSED = { code: 1, json: { code: 11 } }

const podArguments = (namespace: string): Record<string, string> => ({
  CNI_ARGS: `K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=web-0;K8S_POD_UID=${UID}`,
})

class Node {
  readonly socket: string
  readonly members: string
  readonly logs: string
  readonly #directory: string

  private constructor(directory: string) {
    this.#directory = directory
    this.socket = path.join(directory, 'run', 'cni.sock')
    this.members = path.join(directory, 'ambit-members')
    this.logs = path.join(directory, 'pods')
  }

  static async make(test: Test): Promise<Node> {
    const directory = await mkdtemp(path.join(tmpdir(), 'ambit-absent-'))
    test.teardown(() => rm(directory, { recursive: true, force: true }))
    const node = new Node(directory)
    await mkdir(path.dirname(node.socket))
    await mkdir(node.logs)
    return node
  }

  config(change: Record<string, unknown> = {}): string {
    const { members, logs } = this
    return pluginConfig(this.socket, {
      members,
      podLogs: logs,
      agentPods: 'ambit-system_ambit-agent-',
      ...change,
    })
  }

  run(command: string, namespace: string, binary?: string): Promise<PluginRun> {
    return runPlugin(command, this.config(), podArguments(namespace), binary)
  }

  add(namespace: string): Promise<PluginRun> {
    return this.run('ADD', namespace)
  }

  /** As if the agent had confirmed its file so many minutes ago. */
  async lastSign(minutesAgo: number): Promise<void> {
    const then = new Date(Date.now() - minutesAgo * 60_000)
    await utimes(this.members, then, then)
  }

  /** The kubelet's directory of logs for a pod. */
  async logsOf(name: string): Promise<() => Promise<void>> {
    const directory = path.join(this.logs, name)
    await mkdir(directory, { recursive: true })
    return () => rm(directory, { recursive: true })
  }

  async aside(): Promise<string> {
    const aside = path.join(this.#directory, 'aside')
    await rename(this.members, aside)
    return aside
  }
}

void t.test('given an agent that left its file and is away', { skip }, async (t) => {
  const node = await Node.make(t)
  await writeMembers(node.members, ['mesh-b', 'shop'], 1)

  await t.test('a pod of a namespace outside the mesh starts, and that is said', async (t) => {
    const run = await node.add('plain')
    t.match(run, PLAIN)
    t.match(run.stderr, /pod plain\/web-0.*starts without the mesh/)
    t.match(await node.run('CHECK', 'plain'), { code: 0, stdout: '' })
  })

  await t.test('a pod of a namespace in the mesh waits, and hears for what', async (t) => {
    const details =
      /not running.*namespace shop has pods in the mesh.*starts when the agent is back/
    t.match(await node.add('shop'), { code: 1, json: { code: 11, details } })
    t.match(await node.run('CHECK', 'shop'), CLOSED)
    const elsewhere = node.config({ agentPods: 'mesh_ambit-agent-' })
    for (const [config, where] of [
      [node.config(), 'ambit-system'],
      [elsewhere, 'mesh'],
    ] as const) {
      const { json } = await runPlugin('ADD', config, podArguments('shop'))
      t.match(json, { details: `kubectl get pods -n ${where} -o wide` })
    }
  })

  await t.test('names are compared as a whole', async (t) => {
    for (const name of ['mesh', 'mesh-b2', 'hop', 'SHOP'])
      t.match(await node.add(name), PLAIN, name)
    t.match(await node.add('mesh-b'), CLOSED)
  })

  await t.test('excluded namespaces start whatever the file says', async (t) => {
    await writeMembers(node.members, ['kube-system', 'shop'], 1)
    t.match(await node.add('kube-system'), PLAIN)
  })

  await t.test(
    'pods can be deleted, and the node stays ready for those outside the mesh',
    async (t) => {
      t.match(await node.run('DEL', 'shop'), { code: 0, stdout: '' })
      t.match(await node.run('STATUS', 'shop'), { code: 0, stderr: /only pods outside the mesh/ })
      t.match(await node.run('GC', 'shop'), { code: 0, stdout: '' })
    },
  )
})

void t.test('pods are deleted whatever became of the configuration', { skip }, async (t) => {
  const node = await Node.make(t)
  for (const config of [
    '',
    'no json',
    '{"cniVersion":"1.0.0"}',
    node.config({ timeoutMs: 'long' }),
  ])
    t.equal((await runPlugin('DEL', config)).code, 0, config)
})

void t.test(
  'an agent that takes calls and answers none is an agent that is away',
  { skip },
  async (t) => {
    const node = await Node.make(t)
    await writeMembers(node.members, ['shop'], 1)
    // As of a stopped process: the kernel accepts, nobody reads.
    const connections = new Set<net.Socket>()
    const server = net.createServer({ pauseOnConnect: true }, (socket) => connections.add(socket))
    await new Promise<void>((resolve) => server.listen(node.socket, resolve))
    t.teardown(() => {
      for (const connection of connections) connection.destroy()
      server.close()
    })
    t.match(await node.add('plain'), PLAIN)
    t.match(await node.add('shop'), {
      code: 1,
      json: { code: 11, details: /did not answer in time/ },
    })
    t.match(await node.run('CHECK', 'shop'), CLOSED)
    t.match(await node.run('DEL', 'shop'), { code: 0 })
    t.match(await node.run('STATUS', 'shop'), { code: 0 })
  },
)

void t.test('an agent that cannot tell leaves the decision to the file', { skip }, async (t) => {
  const node = await Node.make(t)
  await writeMembers(node.members, ['shop'], 1)
  let code: 'AMB_POD_UNKNOWN' | 'AMB_PORT_TAKEN' = 'AMB_POD_UNKNOWN'
  const server = await startCniServer({
    socketPath: node.socket,
    logger: pino({ level: 'silent' }),
    handlers: {
      onAdd: () => Promise.resolve(err(new AmbitError(code, 'the API server is away'))),
      onCheck: () => Promise.resolve(ok(undefined)),
      onDel: () => Promise.resolve(),
      isReady: () => err('the Kubernetes API has not been listed yet'),
    },
  })
  if (!server.ok) throw server.error
  t.teardown(() => server.value.close())
  t.match(await node.add('plain'), { ...PLAIN, stderr: /the API server is away/ })
  t.match(await node.add('shop'), {
    code: 1,
    json: { code: 11, details: /the API server is away/ },
  })
  t.match(await node.run('STATUS', 'plain'), { code: 0 })
  code = 'AMB_PORT_TAKEN'
  t.match(await node.add('plain'), CLOSED, 'what it did decide stands, in every namespace')
})

void t.test(
  'a file that cannot be believed closes all but the excluded namespaces',
  { skip },
  async (t) => {
    const node = await Node.make(t)
    const good = JSON.stringify({ version: 1, namespaces: ['shop'] })
    const put = async (text: string | Buffer): Promise<void> => {
      await rm(node.members, { force: true, recursive: true })
      await writeFile(node.members, text, { mode: 0o600 })
    }
    const cases: readonly [string, RegExp, () => Promise<unknown>][] = [
      [
        'missing, as after an upgrade from an agent that wrote none',
        /No such file/,
        async () => undefined,
      ],
      ['empty', /one JSON object/, () => put('')],
      ['half written', /one JSON object/, () => put(good.slice(0, -5))],
      ['of another version', /version/, () => put('{"version":2,"namespaces":[]}')],
      ['without a version', /version/, () => put('{"namespaces":[]}')],
      ['without a list', /namespaces/, () => put('{"version":1}')],
      ['with a list of something else', /no name/, () => put('{"version":1,"namespaces":["a",7]}')],
      [
        'with an endless name',
        /no name/,
        () => put(`{"version":1,"namespaces":["${'x'.repeat(300)}"]}`),
      ],
      ['no text at all', /one JSON object/, () => put(Buffer.alloc(4096))],
      ['too large', /larger than 4 MiB/, () => put(Buffer.alloc(4 * 1024 * 1024, ' '))],
      [
        'a link, to a good one even',
        /symbolic link/,
        async () => {
          await put(good)
          await symlink(await node.aside(), node.members)
        },
      ],
      [
        "somebody else's",
        /not root/,
        async () => {
          await put(good)
          await chown(node.members, 65534, 0)
        },
      ],
      [
        'for others to write',
        /others than root/,
        async () => {
          await put(good)
          await chmod(node.members, 0o622)
        },
      ],
      [
        'a FIFO',
        /no regular file/,
        async () => {
          await rm(node.members, { force: true })
          execFileSync('mkfifo', [node.members])
        },
      ],
      [
        'a directory',
        /no regular file/,
        async () => {
          await rm(node.members, { force: true })
          await mkdir(node.members)
        },
      ],
    ]
    for (const [what, reason, arrange] of cases) {
      await arrange()
      const details = new RegExp(`cannot be told by .*ambit-members.*${reason.source}`)
      t.match(await node.add('plain'), { code: 1, json: { code: 11, details } }, what)
      t.match(await node.add('kube-system'), PLAIN, what)
      t.match(await node.run('STATUS', 'plain'), { code: 1, json: { code: 50 } }, what)
      t.match(await node.run('DEL', 'plain'), { code: 0 }, what)
    }
  },
)

void t.test('ten thousand namespaces are found as one is', { skip }, async (t) => {
  const node = await Node.make(t)
  const names = Array.from({ length: 10_000 }, (_, index) => `${'n'.repeat(57)}-${index}`)
  await writeMembers(node.members, names, 1)
  t.match(await node.add(names[9_999] ?? ''), CLOSED)
  t.match(await node.add('plain'), PLAIN)
})

void t.test('given a plugin that the agents left behind', { skip }, async (t) => {
  const node = await Node.make(t)
  await writeMembers(node.members, ['shop'], 1)
  await node.lastSign(11)
  await node.logsOf(`shop_web-0_${UID}`)
  const removeAgent = await node.logsOf(AGENT_LOGS)

  await t.test(
    'an agent whose pod is still there may come back: closed, however long it takes',
    async (t) => {
      t.match(await node.add('shop'), CLOSED)
    },
  )
  await removeAgent()

  await t.test('without a pod of it the plugin steps aside, and says so loudly', async (t) => {
    t.match(await node.add('shop'), { ...PLAIN, stderr: /WARNING.*left its CNI plugin behind/ })
    t.match(await node.run('CHECK', 'shop'), { code: 0 })
  })

  await t.test('also where its file is broken by now', async (t) => {
    await writeFile(node.members, '{')
    await node.lastSign(11)
    t.match(await node.add('shop'), PLAIN)
    await writeMembers(node.members, ['shop'], 1)
  })

  await t.test('one that was there minutes ago is being replaced: closed', async (t) => {
    await node.lastSign(9)
    t.match(await node.add('shop'), CLOSED)
  })

  await t.test('a clock that was set back proves nothing', async (t) => {
    await node.lastSign(-60)
    t.match(await node.add('shop'), CLOSED)
    await node.lastSign(11)
  })

  await t.test(
    'a pod of another name is no agent, in the namespace of the mesh even',
    async (t) => {
      const remove = await node.logsOf(`ambit-system_ambit-controller-x_${UID}`)
      t.match(await node.add('shop'), PLAIN)
      await remove()
    },
  )

  await t.test("a directory that is not this kubelet's proves nothing", async (t) => {
    await rm(node.logs, { recursive: true })
    t.match(await node.add('shop'), CLOSED, 'there is none')
    await node.logsOf(`shop_web-1_${UID}`)
    t.match(await node.add('shop'), CLOSED, "the pod's own logs are not in it")
    await node.logsOf(`shop_web-0_${UID}`)
    const run = await runPlugin('ADD', node.config({ agentPods: '' }), podArguments('shop'))
    t.match(run, CLOSED, 'an agent that no DaemonSet runs')
  })
})

void t.test(
  'no content of the file makes the plugin touch memory that is not its own',
  { skip },
  async (t) => {
    const binary = sanitizedPluginBinary()
    const node = await Node.make(t)
    const good = Buffer.from(
      JSON.stringify({ version: 1, epoch: 7, namespaces: ['shop', 'a\u00fc\n'] }),
    )
    const splice = fc
      .tuple(fc.nat(good.length), fc.nat(8), fc.uint8Array({ maxLength: 16 }))
      .map(([at, gone, bytes]) =>
        Buffer.concat([good.subarray(0, at), bytes, good.subarray(at + gone)]),
      )
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(splice, fc.json().map(Buffer.from), fc.uint8Array({ maxLength: 200 })),
        async (content) => {
          await writeFile(node.members, content, { mode: 0o600 })
          const run = await node.run('ADD', 'shop', binary)
          // Closed, or by chance a whole file that does not name it; a sanitizer ends by a signal or says so.
          return run.stderr.includes('Sanitizer') || run.stderr.includes('runtime error')
            ? false
            : run.code === 0 || run.json?.['code'] === 11
        },
      ),
      { numRuns: 80 },
    )
    t.pass('80 files')
  },
)
