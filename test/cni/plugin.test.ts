// SPDX-License-Identifier: Apache-2.0
// The CNI plugin's binary against the agent's real server: every verb, every way the agent can be missing, and
// what a runtime should never send but might.

import t, { type Test } from 'tap'
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { pino } from 'pino'
import { PLUGIN_VERSIONS } from '../../agent/cni/conflist.ts'
import { startCniServer, type CniHandlers, type CniPod } from '../../agent/cni/index.ts'
import { AmbitError } from '../../mesh/errors.ts'
import { err, ok } from '../../mesh/result.ts'
import { missing } from '../helpers.ts'
import { pluginBinary, pluginConfig, PREVIOUS_RESULT, runPlugin } from './plugin.ts'

const skip = missing('root')
if (skip === false) pluginBinary()

interface Setting {
  readonly socket: string
  readonly calls: string[]
  readonly pods: CniPod[]
  readonly handlers: { -readonly [Name in keyof CniHandlers]: CniHandlers[Name] }
  serve(deadlineMs?: number): Promise<void>
}

async function setUp(test: Test): Promise<Setting> {
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-cni-'))
  const socket = path.join(directory, 'run', 'cni.sock')
  const calls: string[] = []
  const pods: CniPod[] = []
  const record = (verb: string, pod: CniPod): void => {
    calls.push(`${verb} ${pod.namespace}/${pod.name}`)
    pods.push(pod)
  }
  const handlers: Setting['handlers'] = {
    onAdd: (pod) => Promise.resolve(ok(record('ADD', pod))),
    onDel: (pod) => Promise.resolve(record('DEL', pod)),
    onCheck: (pod) => Promise.resolve(ok(record('CHECK', pod))),
    isReady: () => ok(undefined),
  }
  test.teardown(() => rm(directory, { recursive: true, force: true }))
  return {
    socket,
    calls,
    pods,
    handlers,
    async serve(deadlineMs = 1500) {
      const logger = pino({ level: 'silent' })
      const server = await startCniServer({ socketPath: socket, handlers, logger, deadlineMs })
      if (!server.ok) throw server.error
      test.teardown(() => server.value.close())
    },
  }
}

void t.test('VERSION lists what is supported', { skip }, async (t) => {
  const run = await runPlugin('VERSION', '{"cniVersion":"1.0.0"}')
  t.equal(run.code, 0)
  t.same(run.json, {
    cniVersion: '1.1.0',
    supportedVersions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  })
  t.same(run.json?.['supportedVersions'], [...PLUGIN_VERSIONS], 'and no other list is chained into')
})

void t.test('ADD asks the agent and passes the previous result on', { skip }, async (t) => {
  const { socket, serve, pods, calls } = await setUp(t)
  await serve()
  const run = await runPlugin('ADD', pluginConfig(socket))
  t.equal(run.code, 0, run.stdout)
  t.same(run.json, PREVIOUS_RESULT)
  t.same(calls, ['ADD shop/web-0'])
  t.same(pods[0], {
    containerId: 'c1',
    netnsPath: '/run/netns/x',
    ifname: 'eth0',
    namespace: 'shop',
    name: 'web-0',
    uid: '5f0c1c52-8a3e-4bd1-9d6f-0a53b7d8a001',
    addresses: ['10.244.1.7', 'fd98:244:1::7'],
  })
})

void t.test('every supported version of the specification is served', { skip }, async (t) => {
  const { socket, serve, calls } = await setUp(t)
  await serve()
  for (const cniVersion of ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'])
    t.equal((await runPlugin('ADD', pluginConfig(socket, { cniVersion }))).code, 0, cniVersion)
  t.equal(calls.length, 5)
  const run = await runPlugin('ADD', pluginConfig(socket, { cniVersion: '2.0.0' }))
  t.match(run, { code: 1, json: { code: 1, details: /cniVersion/ } })
})

void t.test("the agent's refusal reaches the runtime in its own words", { skip }, async (t) => {
  const { socket, serve, handlers } = await setUp(t)
  await serve()
  const message = 'Cannot enrol pod shop/web-0: "quoted" \\ back, and\nanother line, ü'
  handlers.onAdd = () => Promise.resolve(err(new AmbitError('AMB_PORT_TAKEN', message)))
  const run = await runPlugin('ADD', pluginConfig(socket))
  t.match(run, {
    code: 1,
    json: { cniVersion: '1.0.0', code: 11, msg: message, details: /AMB_PORT_TAKEN: Free the port/ },
  })
})

void t.test('a handler that throws refuses the pod', { skip }, async (t) => {
  const { socket, serve, handlers } = await setUp(t)
  await serve()
  handlers.onAdd = () => Promise.reject(new Error('a bug'))
  t.match(await runPlugin('ADD', pluginConfig(socket)), {
    code: 1,
    json: { code: 11, msg: 'a bug' },
  })
})

void t.test(
  'without an agent ADD fails, excluded namespaces pass, DEL succeeds',
  { skip },
  async (t) => {
    const { socket } = await setUp(t)
    const config = pluginConfig(socket)
    t.match(await runPlugin('ADD', config), {
      code: 1,
      json: { code: 11, msg: 'Cannot ask the Ambit agent', details: /not running/ },
    })
    const excluded = { CNI_ARGS: 'K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns' }
    t.match(await runPlugin('ADD', config, excluded), { code: 0, json: PREVIOUS_RESULT })
    const almost = { CNI_ARGS: 'K8S_POD_NAMESPACE=kube-system2;K8S_POD_NAME=dns' }
    t.match(await runPlugin('ADD', config, almost), { code: 1, json: { code: 11 } })
    const deleted = await runPlugin('DEL', config)
    t.match(deleted, { code: 0, stdout: '', stderr: /deletion/ })
    t.match(await runPlugin('CHECK', config), { code: 1, json: { code: 11 } })
    t.match(await runPlugin('STATUS', config), { code: 1, json: { code: 50 } })
    t.match(await runPlugin('GC', config), { code: 0, stdout: '' })
  },
)

void t.test(
  'a socket file that nobody serves is an agent that is not there',
  { skip },
  async (t) => {
    const { socket } = await setUp(t)
    await mkdir(path.dirname(socket))
    await writeFile(socket, '')
    t.match(await runPlugin('ADD', pluginConfig(socket)), { code: 1, json: { code: 11 } })
  },
)

void t.test('CHECK, DEL and STATUS reach the agent', { skip }, async (t) => {
  const { socket, serve, calls, handlers, pods } = await setUp(t)
  await serve()
  const config = pluginConfig(socket)
  t.match(await runPlugin('CHECK', config), { code: 0, stdout: '' })
  t.match(await runPlugin('DEL', config, { CNI_NETNS: '' }), { code: 0, stdout: '' })
  t.match(await runPlugin('STATUS', config), { code: 0, stdout: '' })
  handlers.isReady = () => err('the API is away')
  t.match(await runPlugin('STATUS', config), {
    code: 1,
    json: { code: 50, details: /the API is away/ },
  })
  t.same(calls, ['CHECK shop/web-0', 'DEL shop/web-0'])
  t.equal(pods[1]?.netnsPath, '')
  handlers.onDel = () => Promise.reject(new Error('a bug'))
  t.equal((await runPlugin('DEL', config)).code, 0, 'deletion succeeds whatever the agent thinks')
})

void t.test('a container that is no pod passes; half a pod does not', { skip }, async (t) => {
  const { socket } = await setUp(t)
  const config = pluginConfig(socket)
  t.match(await runPlugin('ADD', config, { CNI_ARGS: undefined }), {
    code: 0,
    json: PREVIOUS_RESULT,
  })
  for (const args of [
    'K8S_POD_NAME=web',
    'K8S_POD_NAMESPACE=shop',
    'K8S_POD_NAMESPACE=a/b;K8S_POD_NAME=c',
  ]) {
    t.match(
      await runPlugin('ADD', config, { CNI_ARGS: args }),
      { code: 1, json: { code: 4 } },
      args,
    )
    t.match(await runPlugin('DEL', config, { CNI_ARGS: args }), { code: 0, stdout: '' }, 'and goes')
  }
})

void t.test('a slow agent is given up in time', { skip }, async (t) => {
  const { socket, serve, handlers } = await setUp(t)
  await serve(5000)
  handlers.onAdd = () => new Promise(() => undefined)
  // In the plugin's words: the server would have given up by itself after five seconds, in others.
  const run = await runPlugin('ADD', pluginConfig(socket, { timeoutMs: 300 }))
  t.match(run, { code: 1, json: { code: 11, details: /did not answer in time/ } })
})

void t.test(
  "the server's own deadline refuses a pod whose enrolment hangs",
  { skip },
  async (t) => {
    const { socket, serve, handlers } = await setUp(t)
    let wasAborted = false
    handlers.onAdd = (_, signal) =>
      new Promise((resolve) => {
        signal.addEventListener('abort', () => {
          wasAborted = true
          resolve(ok(undefined))
        })
      })
    await serve(200)
    const run = await runPlugin('ADD', pluginConfig(socket))
    t.match(run, { code: 1, json: { code: 11, details: /no decision within 200 ms/ } })
    t.ok(wasAborted)
  },
)

void t.test(
  'an agent that answers nonsense, half or nothing is no consent',
  { skip },
  async (t) => {
    const { socket } = await setUp(t)
    const frame = (text: string): Buffer => {
      const head = Buffer.alloc(4)
      head.writeUInt32BE(Buffer.byteLength(text))
      return Buffer.concat([head, Buffer.from(text)])
    }
    const answers: readonly Buffer[] = [
      Buffer.alloc(0),
      Buffer.from([0, 0]),
      frame('{"ok":true}').subarray(0, 9),
      frame('{"ok":true'),
      frame('true'),
      frame('[true]'),
      frame('{"ok":"true"}'),
      frame('{"ok":false}'),
      frame('{"ok":1,"code":-1,"msg":"m","details":"d"}'),
      Buffer.from([0xff, 0xff, 0xff, 0xff, 0x7b]),
      frame(''),
    ]
    await mkdir(path.dirname(socket))
    let answer: Buffer = Buffer.alloc(0)
    const server = net.createServer((connection) => {
      connection.on('error', () => connection.destroy())
      connection.once('data', () => connection.end(answer))
    })
    await new Promise<void>((resolve) => server.listen(socket, resolve))
    t.teardown(() => server.close())
    for (answer of answers) {
      const run = await runPlugin('ADD', pluginConfig(socket))
      t.equal(run.code, 1, answer.toString('latin1'))
      t.ok([5, 11].includes(Number(run.json?.code)), run.stdout)
    }
  },
)

void t.test('standard input that never ends is given up', { skip }, async (t) => {
  const { socket } = await setUp(t)
  const run = runPlugin('ADD', undefined)
  // Ends by the plugin's own 10 s; the test only sees that it has an end.
  t.match(await run, { code: 1, json: { code: 5, details: /standard input/ } }, socket)
})

void t.test('bad configurations are named by field', { skip }, async (t) => {
  const { socket } = await setUp(t)
  const cases: readonly [string, number, RegExp][] = [
    ['', 6, /not one JSON object/],
    ['[]', 6, /not one JSON object/],
    ['{"cniVersion":"1.0.0"', 6, /not one JSON object/],
    ['{"cniVersion":"1.0.0"} x', 6, /not one JSON object/],
    ['{"a":'.repeat(500) + '1' + '}'.repeat(500), 6, /not one JSON object/],
    ['['.repeat(100_000), 6, /not one JSON object/],
    [`{"a":"${'x'.repeat(1024 * 1024)}"}`, 6, /larger than 1 MiB/],
    ['{}', 7, /cniVersion/],
    ['{"cniVersion":1}', 7, /cniVersion/],
    ['{"cniVersion":"\\u0000"}', 7, /cniVersion/],
    ['{"cniVersion":"1.0.0"}', 7, /field socket/],
    [pluginConfig('run/cni.sock'), 7, /field socket/],
    [pluginConfig(`/${'x'.repeat(300)}`), 7, /field socket/],
    [pluginConfig(socket, { prevResult: null }), 7, /prevResult/],
    [pluginConfig(socket, { timeoutMs: -1 }), 7, /timeoutMs/],
    [pluginConfig(socket, { timeoutMs: '5' }), 7, /timeoutMs/],
    [pluginConfig(socket, { excludeNamespaces: 'kube-system' }), 7, /excludeNamespaces/],
    [pluginConfig(`/${'x'.repeat(150)}`), 11, /longer than 107/],
  ]
  for (const [config, code, details] of cases)
    t.match(
      await runPlugin('ADD', config),
      { code: 1, json: { code, details } },
      config.slice(0, 60),
    )
})

void t.test('missing variables are named', { skip }, async (t) => {
  const { socket } = await setUp(t)
  for (const name of ['CNI_COMMAND', 'CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'])
    t.match(await runPlugin('ADD', pluginConfig(socket), { [name]: undefined }), {
      code: 1,
      json: { code: 4, details: name },
    })
  t.match(await runPlugin('FLY', pluginConfig(socket)), {
    code: 1,
    json: { code: 4, details: 'FLY' },
  })
  const long = { CNI_NETNS: `/${'n'.repeat(5000)}` }
  t.match(await runPlugin('ADD', pluginConfig(socket), long), { code: 1, json: { code: 4 } })
})

void t.test('escapes in the configuration are understood', { skip }, async (t) => {
  const { socket, serve, calls } = await setUp(t)
  await serve()
  const escaped = [...socket]
    .map((letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .join('')
  const config = pluginConfig('@').replace('"@"', `"${escaped}"`)
  const run = await runPlugin('ADD', config.replace('"socket"', '"so\\u0063ket"'))
  t.equal(run.code, 0, run.stdout)
  t.same(calls, ['ADD shop/web-0'])
  t.match(
    await runPlugin(
      'ADD',
      pluginConfig('/nowhere', { excludeNamespaces: ['@'] }).replace('"@"', '"s\\u0068op"'),
    ),
    { code: 0 },
  )
})

void t.test(
  'garbage on standard input never crashes the plugin nor gets consent',
  { skip },
  async (t) => {
    const { socket } = await setUp(t)
    const good = pluginConfig(socket)
    const mutated = fc
      .array(
        fc.record({
          at: fc.nat({ max: good.length }),
          cut: fc.nat({ max: 8 }),
          put: fc.constantFrom(
            '',
            '{',
            '}',
            '[',
            ']',
            '"',
            '\\',
            '\\u',
            ',',
            ':',
            '\0',
            'ÿ',
            '9',
            '-',
          ),
        }),
        { minLength: 1, maxLength: 4 },
      )
      .map((edits) => {
        let text = good
        for (const { at, cut, put } of edits) text = text.slice(0, at) + put + text.slice(at + cut)
        return Buffer.from(text)
      })
    const garbage = fc.oneof(mutated, fc.uint8Array({ maxLength: 300 }).map(Buffer.from))
    await fc.assert(
      fc.asyncProperty(garbage, async (stdin) => {
        const run = await runPlugin('ADD', stdin)
        return run.signal === null && run.code === 1 && typeof run.json?.code === 'number'
      }),
      { numRuns: 150 },
    )
    t.pass()
  },
)

void t.test('the socket is for root alone', { skip }, async (t) => {
  const { socket, serve } = await setUp(t)
  await serve()
  t.equal((await stat(socket)).mode & 0o777, 0o600)
  t.equal((await stat(path.dirname(socket))).mode & 0o777, 0o700)
})

void t.test('an upgraded agent takes the socket over and keeps it', { skip }, async (t) => {
  const { socket, handlers, calls } = await setUp(t)
  const logger = pino({ level: 'silent' })
  const old = await startCniServer({ socketPath: socket, handlers, logger })
  // Two processes in life; here the old one's own name must only not be in the way.
  const young = await startCniServer({ socketPath: socket, handlers, logger })
  if (!old.ok || !young.ok) throw new Error('a server did not start')
  t.teardown(() => young.value.close())
  await old.value.close()
  t.equal((await runPlugin('ADD', pluginConfig(socket))).code, 0)
  t.same(calls, ['ADD shop/web-0'])
})

void t.test('a file in the place of the socket is not touched', { skip }, async (t) => {
  const { socket, handlers } = await setUp(t)
  const logger = pino({ level: 'silent' })
  await mkdir(path.dirname(socket))
  await writeFile(socket, 'mine')
  t.match(await startCniServer({ socketPath: socket, handlers, logger }), {
    ok: false,
    error: { code: 'AMB_CNI_SOCKET' },
  })
  t.equal(await readFile(socket, 'utf8'), 'mine')
})

void t.test(
  'clients that send garbage, too much or nothing do not disturb others',
  { skip },
  async (t) => {
    const { socket, serve, calls } = await setUp(t)
    await serve(400)
    const send = (bytes: Buffer): Promise<string> =>
      new Promise((resolve, reject) => {
        const client = net.connect(socket, () => client.write(bytes))
        const received: Buffer[] = []
        client.on('data', (chunk: Buffer) => received.push(chunk))
        client.on('close', () => resolve(Buffer.concat(received).toString('utf8')))
        client.on('error', reject)
      })
    const framed = (text: string): Buffer => {
      const head = Buffer.alloc(4)
      head.writeUInt32BE(Buffer.byteLength(text))
      return Buffer.concat([head, Buffer.from(text)])
    }
    const silent = send(Buffer.alloc(0))
    t.match(await send(Buffer.from('GET / HTTP/1.1\r\n\r\n')), /claims \d+ bytes/)
    t.match(await send(framed('nonsense')), /not JSON/)
    t.match(await send(framed('{"protocol":2,"command":"ADD"}')), /protocol 2 is unknown/)
    t.match(
      await send(framed('{"protocol":1,"command":"ADD","containerId":"c"}')),
      /podNamespace is missing/,
    )
    const relative = {
      protocol: 1,
      command: 'ADD',
      containerId: 'c',
      podNamespace: 'n',
      podName: 'p',
    }
    t.match(
      await send(framed(JSON.stringify({ ...relative, netns: 'x' }))),
      /netns is no absolute path/,
    )
    const address = { prevResult: { ips: [{ address: '10.0.0.x/24' }] } }
    t.match(
      await send(framed(JSON.stringify({ ...relative, netns: '/x', config: address }))),
      /ips\[0\].address is no IP address: 10.0.0.x/,
    )
    t.equal((await runPlugin('ADD', pluginConfig(socket))).code, 0)
    t.same(calls, ['ADD shop/web-0'])
    t.equal(await silent, '', 'who says nothing is put out at the deadline')
  },
)

void t.test('fifty pods may start at once', { skip }, async (t) => {
  const { socket, serve, calls } = await setUp(t)
  await serve()
  const runs = await Promise.all(
    Array.from({ length: 50 }, () => runPlugin('ADD', pluginConfig(socket, { timeoutMs: 9000 }))),
  )
  t.ok(runs.every(({ code }) => code === 0))
  t.equal(calls.length, 50)
})
