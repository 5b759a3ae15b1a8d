// SPDX-License-Identifier: Apache-2.0
// Exec and logs with the real kubectl: the pod runtime behind them runs plain processes.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import t from 'tap'
import { err, ok } from '../../mesh/result.ts'
import type {
  ExecRequest,
  LogRequest,
  PodRuntime,
} from '../../lab/kubernetes/own/apiserver/pod-runtime.ts'
import { type OwnCluster, missingKubectl, startCluster } from './cluster.ts'
import { untilObject, untilOutput } from './waiting.ts'

const skip = missingKubectl()

class ProcessRuntime implements PodRuntime {
  readonly execs: ExecRequest[] = []
  readonly logRequests: LogRequest[] = []
  killed = 0

  exec: PodRuntime['exec'] = (request) => {
    this.execs.push(request)
    const [program = '', ...rest] = request.command
    if (program === 'refuse') return Promise.resolve(err('the container is not running'))
    const child = spawn(program, rest, { stdio: 'pipe' })
    const exit = once(child, 'close').then(([code, signal]) =>
      typeof signal === 'string'
        ? ({ kind: 'signalled', signal } as const)
        : ({ kind: 'exited', code: Number(code) } as const),
    )
    if (!request.stdin) child.stdin.end()
    return Promise.resolve(
      ok({
        stdin: request.stdin ? child.stdin : undefined,
        stdout: child.stdout,
        stderr: child.stderr,
        resize: () => undefined,
        kill: () => {
          this.killed += 1
          child.kill('SIGKILL')
        },
        exit,
      }),
    )
  }

  logs: PodRuntime['logs'] = (request) => {
    this.logRequests.push(request)
    return Promise.resolve(
      request.previous
        ? err('previous terminated container not found')
        : ok(Readable.from(['one\n', 'two\n'])),
    )
  }
}

const POD = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},
"spec":{"containers":[{"name":"main","image":"host"},{"name":"side","image":"host"}]}}`

async function withPod(runtime: PodRuntime | undefined): Promise<OwnCluster> {
  const cluster = await startCluster({ podRuntime: runtime })
  await cluster.kubectl(['apply', '-f', '-'], POD)
  await untilObject(cluster.api, 'pods', (pod) => pod.status?.phase === 'Running')
  return cluster
}

void t.test('exec gives output, errors and the exit code, and takes input', { skip }, async (t) => {
  const runtime = new ProcessRuntime()
  await using cluster = await withPod(runtime)
  const split = await cluster.kubectl([
    'exec',
    'p',
    '-c',
    'side',
    '--',
    'sh',
    '-c',
    'echo out; echo err >&2; exit 3',
  ])
  t.equal(split.stdout, 'out\n')
  t.match(split.stderr, /^err\n[^]*command terminated with exit code 3/)
  t.equal(split.code, 3)
  t.match(runtime.execs[0], {
    container: 'side',
    podName: 'p',
    namespace: 'default',
    stdin: false,
    tty: false,
  })
  const pod = await cluster.api.get('pods', 'default', 'p')
  t.equal(runtime.execs[0]?.podUid, pod.ok && pod.value.metadata.uid)

  const input = 'x'.repeat(300_000)
  const echoed = await cluster.kubectl(['exec', '-i', 'p', '--', 'cat'], input)
  t.equal(echoed.stdout, input, 'the end of stdin ends the process, nothing is lost')
  t.equal(echoed.code, 0)
  const big = await cluster.kubectl(['exec', 'p', '--', 'head', '-c', '20000000', '/dev/zero'])
  t.equal(big.stdout.length, 20_000_000)
})

void t.test('exec is served over SPDY, too, as older clients ask for it', { skip }, async (t) => {
  const runtime = new ProcessRuntime()
  await using cluster = await withPod(runtime)
  const env = { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: 'false' }
  const split = await cluster.kubectl(
    ['exec', 'p', '-c', 'main', '--', 'sh', '-c', 'echo out; echo err >&2; exit 3'],
    undefined,
    undefined,
    env,
  )
  t.equal(split.stdout, 'out\n')
  t.match(split.stderr, /^err\n[^]*command terminated with exit code 3/)
  t.equal(split.code, 3)

  const input = 'x'.repeat(300_000)
  const echoed = await cluster.kubectl(['exec', '-i', 'p', '--', 'cat'], input, undefined, env)
  t.equal(echoed.stdout, input, 'the end of stdin ends the process, nothing is lost')
  const refused = await cluster.kubectl(['exec', 'p', '--', 'refuse'], undefined, undefined, env)
  t.match(refused.stderr, /the container is not running/)
  const absent = await cluster.kubectl(['exec', 'nobody', '--', 'true'], undefined, undefined, env)
  t.match(absent.stderr, /pods "nobody" not found/)
})

void t.test('a client that goes away ends its process', { skip }, async (t) => {
  const runtime = new ProcessRuntime()
  await using cluster = await withPod(runtime)
  const client = cluster.spawnKubectl(['exec', 'p', '--', 'sh', '-c', 'echo ready; exec sleep 600'])
  if (client.stdout === null) throw new Error('no stdout')
  await untilOutput(client.stdout, (text) => text.includes('ready'))
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const original = runtime.execs.length
  const timer = setInterval(() => {
    if (runtime.killed > 0) resolve(undefined)
  }, 5)
  client.kill('SIGKILL')
  await promise
  clearInterval(timer)
  t.equal(runtime.killed, 1)
  t.equal(original, 1)
})

void t.test('what cannot be run is refused with the reason', { skip }, async (t) => {
  await using cluster = await withPod(new ProcessRuntime())
  const cases = [
    [['exec', 'p', '--', 'refuse'], /the container is not running/],
    [['exec', 'p', '-c', 'ghost', '--', 'true'], /container (ghost is not valid|not found)/],
    [['exec', 'nobody', '--', 'true'], /pods "nobody" not found/],
    [['logs', 'p', '-c', 'main', '--previous'], /previous terminated container not found/],
  ] as const
  for (const [args, message] of cases) {
    const ran = await cluster.kubectl(args)
    t.not(ran.code, 0)
    t.match(ran.stderr, message, args.join(' '))
  }
  await using bare = await withPod(undefined)
  t.match((await bare.kubectl(['exec', 'p', '--', 'true'])).stderr, /no pod runtime/)
})

void t.test('logs are streamed with the options of the client', { skip }, async (t) => {
  const runtime = new ProcessRuntime()
  await using cluster = await withPod(runtime)
  const logs = await cluster.kubectl(['logs', 'p', '-c', 'side', '--tail=5', '--timestamps', '-f'])
  t.equal(logs.stdout, 'one\ntwo\n')
  t.match(runtime.logRequests[0], {
    container: 'side',
    tailLines: 5,
    timestamps: true,
    follow: true,
    previous: false,
  })
})
