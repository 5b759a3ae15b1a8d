// SPDX-License-Identifier: Apache-2.0
// Exec and log of pods: WebSocket channels, SPDY streams and plain streams, joined to what the pod runtime gives.
// Ports are forwarded over WebSockets alone, which kubectl 1.31 and later use by themselves.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { type Result, ok } from '../../../../../mesh/result.ts'
import { badRequest, refuse, statusOf } from '../../../objects/refusals.ts'
import { records, text } from '../../../objects/json.ts'
import type { Registry } from '../registry.ts'
import type { Refusal } from '../../../objects/refusals.ts'
import type { ExecExit, ExecSession, PodRuntime } from '../pod-runtime.ts'
import type { JsonObject, StoredObject } from '../../../objects/stored-object.ts'
import type { ResourcePath } from './request.ts'
import { CHANNEL, type ChannelConnection } from './channel-connection.ts'
import { forwardPort, FORWARD_CHANNELS_PROTOCOL } from './port-forward-channels.ts'
import { forwardPorts, PORT_FORWARD_PROTOCOL } from './port-forward.ts'
import { sendFailure } from './respond.ts'
import { acceptChannels, execProtocol } from './spdy-channels.ts'
import { WebSocketConnection } from './websocket.ts'

/** Best first; v5 adds the message that closes stdin. */
const PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io'] as const
/** attach is not served, and kubectl is told so. */
const STREAMS = new Set(['exec', 'attach', 'portforward', 'log'])

const NO_RUNTIME = 'the lab has no pod runtime yet: nothing can run in pods'
const UPGRADE_HINT =
  'use WebSockets, as kubectl 1.31 or later does by default; SPDY without them is for exec alone'

/** Whether a path is a stream of a pod. */
export function isPodStream(path: ResourcePath): boolean {
  return path.group === '' && path.plural === 'pods' && STREAMS.has(path.subresource ?? '')
}

/** The Status on the error channel that tells how the process ended. */
function exitStatus(exit: ExecExit): JsonObject {
  if (exit.kind === 'exited' && exit.code === 0) return { metadata: {}, status: 'Success' }
  if (exit.kind === 'failed')
    return {
      metadata: {},
      status: 'Failure',
      message: exit.message,
      reason: 'InternalError',
      code: 500,
    }
  // A process ended by a signal counts as in a shell: 128 plus the number is not known here, 137 is usual.
  const code = exit.kind === 'exited' ? exit.code : (SIGNAL_EXIT_CODES[exit.signal] ?? 128)
  return {
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code: exit code ${code}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
  }
}

const SIGNAL_EXIT_CODES: { readonly [signal: string]: number } = {
  SIGHUP: 129,
  SIGINT: 130,
  SIGQUIT: 131,
  SIGABRT: 134,
  SIGKILL: 137,
  SIGSEGV: 139,
  SIGPIPE: 141,
  SIGTERM: 143,
}

const flag = (query: URLSearchParams, name: string): boolean =>
  query.get(name) === 'true' || query.get(name) === '1'

const numberOf = (query: URLSearchParams, name: string): number | undefined => {
  const value = query.get(name)
  return value === null || value === '' || Number.isNaN(Number(value)) ? undefined : Number(value)
}

type Acceptance = (socket: Socket) => Promise<ChannelConnection | undefined>

interface Target {
  readonly pod: StoredObject
  readonly container: string
}

export class PodStreams {
  runtime: PodRuntime | undefined
  readonly #registry: Registry

  constructor(registry: Registry, runtime: PodRuntime | undefined) {
    this.#registry = registry
    this.runtime = runtime
  }

  /** Plain HTTP: logs. Exec without an upgrade is told how to do it. */
  async handle(
    request: IncomingMessage,
    response: ServerResponse,
    path: ResourcePath,
    query: URLSearchParams,
  ): Promise<void> {
    if (path.subresource === 'log' && request.method === 'GET')
      return this.#logs(response, path, query)
    return sendFailure(response, badRequest(`Upgrade request required. ${UPGRADE_HINT}`).error)
  }

  async upgrade(
    request: IncomingMessage,
    socket: Socket,
    path: ResourcePath,
    query: URLSearchParams,
  ): Promise<void> {
    // kubectl tries SPDY after any refused WebSocket: both must tell what is wrong in the first place.
    const target = this.#execTarget(path, query)
    if (!target.ok) return this.refuseUpgrade(socket, target.error)
    const { pod, container, runtime } = target.value
    const where = {
      podUid: pod.metadata.uid,
      namespace: path.namespace ?? '',
      podName: path.name ?? '',
      container,
    }
    const run = (command: readonly string[], stdin: boolean, tty: boolean) =>
      runtime.exec({ ...where, command, stdin, tty })
    if (path.subresource === 'portforward')
      return this.#forward(request, socket, query, (command) => run(command, true, false))
    const accept = this.#execAcceptance(request, query)
    if (!accept.ok) return this.refuseUpgrade(socket, accept.error)
    const connection = await accept.value(socket)
    if (connection === undefined) return
    // Only now: what a short command says would be over before anybody listened. Input waits for it.
    connection.pause(true)
    const session = await run(query.getAll('command'), flag(query, 'stdin'), flag(query, 'tty'))
    connection.pause(false)
    if (!session.ok) return finish(connection, { kind: 'failed', message: session.error })
    if (socket.destroyed) session.value.kill()
    else await join(connection, session.value)
  }

  async #forward(
    request: IncomingMessage,
    socket: Socket,
    query: URLSearchParams,
    run: (command: readonly string[]) => Promise<Result<ExecSession, string>>,
  ): Promise<void> {
    const protocols = [PORT_FORWARD_PROTOCOL, FORWARD_CHANNELS_PROTOCOL]
    const offer = this.#webSocketOffer(request, protocols)
    if (!offer.ok) return this.refuseUpgrade(socket, offer.error)
    const { key, protocol } = offer.value
    const connection = new WebSocketConnection(socket, key, protocol)
    if (protocol === PORT_FORWARD_PROTOCOL) forwardPorts(connection, run)
    else await forwardPort(connection, numberOf(query, 'ports'), run)
  }

  /** How to take the upgrade of an exec: what it gives is undefined when the client has gone. */
  #execAcceptance(request: IncomingMessage, query: URLSearchParams): Result<Acceptance, Refusal> {
    const version = execProtocol(request.headers['x-stream-protocol-version'])
    if (request.headers.upgrade?.toLowerCase() === 'spdy/3.1' && version !== undefined) {
      const isTerminal = flag(query, 'tty')
      const channels = (['stdin', 'stdout', 'stderr'] as const).filter(
        (each) => flag(query, each) && !(isTerminal && each === 'stderr'),
      )
      return ok((socket) => acceptChannels(socket, version, ['error', ...channels]))
    }
    const offer = this.#webSocketOffer(request, PROTOCOLS)
    if (!offer.ok) return offer
    const { key, protocol } = offer.value
    return ok((socket) => Promise.resolve(new WebSocketConnection(socket, key, protocol)))
  }

  #webSocketOffer(
    request: IncomingMessage,
    protocols: readonly string[],
  ): Result<{ readonly key: string; readonly protocol: string }, Refusal> {
    const offered = (request.headers['sec-websocket-protocol'] ?? '')
      .split(',')
      .map((one) => one.trim())
    const protocol = protocols.find((one) => offered.includes(one))
    const key = request.headers['sec-websocket-key']
    if (request.headers.upgrade?.toLowerCase() !== 'websocket' || key === undefined)
      return badRequest(UPGRADE_HINT)
    if (protocol !== undefined) return ok({ key, protocol })
    return badRequest(
      `none of the offered subprotocols is supported; supported: ${protocols.join(', ')}`,
    )
  }

  /** Answers an upgrade with a Status instead. */
  refuseUpgrade(socket: Socket, failure: Refusal): void {
    const body = JSON.stringify(statusOf(failure))
    socket.end(
      `HTTP/1.1 ${failure.status} ${failure.reason}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    )
  }

  #execTarget(
    path: ResourcePath,
    query: URLSearchParams,
  ): Result<Target & { readonly runtime: PodRuntime }, Refusal> {
    const isForward = path.subresource === 'portforward'
    if (path.subresource !== 'exec' && !isForward)
      return badRequest(
        `${String(path.subresource)} is not served by the lab; exec, log and portforward are`,
      )
    const target = this.#target(path, query)
    if (!target.ok) return target
    if (this.runtime === undefined) return refuse(503, 'ServiceUnavailable', NO_RUNTIME)
    if (!isForward && query.getAll('command').length === 0)
      return badRequest('you must specify at least 1 command for the container')
    return ok({ ...target.value, runtime: this.runtime })
  }

  #target(path: ResourcePath, query: URLSearchParams): Result<Target, Refusal> {
    const type = this.#registry.type('pods')
    if (!type.ok) return type
    const pod = this.#registry.get(type.value, path.namespace, path.name ?? '')
    if (!pod.ok) return pod
    const names = [
      ...records(pod.value.spec?.containers),
      ...records(pod.value.spec?.initContainers),
    ].map((container) => text(container.name) ?? '')
    const container = query.get('container') ?? names[0] ?? ''
    if (!names.includes(container))
      return badRequest(`container ${container} is not valid for pod ${path.name ?? ''}`)
    if ((text(pod.value.spec?.nodeName) ?? '') === '')
      return badRequest(`pod ${path.name ?? ''} does not have a host assigned`)
    return ok({ pod: pod.value, container })
  }

  async #logs(response: ServerResponse, path: ResourcePath, query: URLSearchParams): Promise<void> {
    const target = this.#target(path, query)
    if (!target.ok) return sendFailure(response, target.error)
    if (this.runtime === undefined)
      return sendFailure(response, refuse(503, 'ServiceUnavailable', NO_RUNTIME).error)
    const { pod, container } = target.value
    const opened = await this.runtime.logs({
      podUid: pod.metadata.uid,
      namespace: path.namespace ?? '',
      podName: path.name ?? '',
      container,
      follow: flag(query, 'follow'),
      previous: flag(query, 'previous'),
      timestamps: flag(query, 'timestamps'),
      tailLines: numberOf(query, 'tailLines'),
      sinceSeconds: numberOf(query, 'sinceSeconds'),
      limitBytes: numberOf(query, 'limitBytes'),
    })
    if (!opened.ok) return sendFailure(response, badRequest(opened.error).error)
    const logs = opened.value
    response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' })
    response.flushHeaders()
    response.on('close', () => logs.destroy())
    logs.on('error', () => response.destroy())
    logs.pipe(response)
  }
}

/** Sends everything a stream gives on a channel, at the client's pace. */
async function pump(stream: Readable | undefined, channel: number, connection: ChannelConnection) {
  if (stream === undefined) return
  const head = Buffer.from([channel])
  try {
    for await (const chunk of stream as AsyncIterable<Buffer | string>)
      if (!connection.send(Buffer.concat([head, Buffer.from(chunk)]))) await connection.drained()
  } catch {
    // A stream cut short ends like one at its end; the exit status tells the rest.
    return
  }
}

/** Joins the channels of a WebSocket to a process, until both are done. */
async function join(connection: ChannelConnection, session: ExecSession): Promise<void> {
  const { stdin } = session
  stdin?.on('error', () => undefined) // the process closed its stdin: what is typed goes nowhere
  stdin?.on('drain', () => connection.pause(false))
  connection.onMessage = (message) => {
    const channel = message[0]
    const payload = message.subarray(1)
    if (channel === CHANNEL.stdin && stdin?.writable === true) {
      if (payload.length > 0 && !stdin.write(payload)) connection.pause(true)
    } else if (channel === CHANNEL.close && payload[0] === CHANNEL.stdin) stdin?.end()
    else if (channel === CHANNEL.resize) {
      const size = /"Width":\s*(\d+).*"Height":\s*(\d+)/i.exec(payload.toString('utf8'))
      if (size !== null) session.resize(Number(size[1]), Number(size[2]))
    }
  }
  connection.onClose = () => session.kill()
  const output = Promise.all([
    pump(session.stdout, CHANNEL.stdout, connection),
    pump(session.stderr, CHANNEL.stderr, connection),
  ])
  const exit = await session.exit
  await output
  finish(connection, exit)
}

/** Tells how the process ended, and ends the connection. */
function finish(connection: ChannelConnection, exit: ExecExit): void {
  connection.send(
    Buffer.concat([Buffer.from([CHANNEL.error]), Buffer.from(JSON.stringify(exitStatus(exit)))]),
  )
  connection.close()
}
