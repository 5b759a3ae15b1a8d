// SPDX-License-Identifier: Apache-2.0
// The agent's end of ambit-cni: a Unix socket for root alone. One question a connection; every question has a
// deadline, and what cannot be answered in time is refused, so that no pod starts outside the mesh by accident.

import net from 'node:net'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import type { Result } from '../../mesh/result.ts'
import { err, ok } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { type GiveUpName, listenForRoot } from '../unix-socket.ts'
import { readCniRequest, type CniPod, type CniRequest } from './request.ts'

export interface CniHandlers {
  /**
   * Answers when the pod is enrolled, or is not to be. An error refuses the pod's sandbox; AMB_POD_UNKNOWN, that nothing can be told
   * of the pod: the plugin then decides as if there were no agent.
   */
  onAdd(pod: CniPod, signal: AbortSignal): Promise<Result<void, AmbitError>>
  /** The sandbox is going; failure is logged and the runtime told nothing of it. */
  onDel(pod: CniPod, signal: AbortSignal): Promise<void>
  /** Whether the pod is as ADD left it. */
  onCheck(pod: CniPod, signal: AbortSignal): Promise<Result<void, AmbitError>>
  /** Whether ADD can be served now; else why not. */
  isReady(): Result<void, string>
}

export interface CniServerOptions {
  readonly socketPath: string
  readonly handlers: CniHandlers
  readonly logger: Logger
  /** For one question, from connection to answer. Default 10 s: enrolment takes milliseconds, the API server may not. */
  readonly deadlineMs?: number
}

export interface CniServer {
  /** Stops answering, breaks off what is being asked, removes the socket. */
  close(): Promise<void>
}

const REQUEST_DEADLINE_MS = 10_000
/** What ambit-cni can send at most: its 1 MiB of configuration and its variables. */
const LARGEST_REQUEST_BYTES = 1024 * 1024 + 64 * 1024
const LENGTH_PREFIX_BYTES = 4
/** More than a node full of pods starting at once. */
const MAX_CONNECTIONS = 512
/** CNI error codes (CNI specification, "Error"). */
const CNI_TRY_AGAIN = 11
const CNI_BAD_REQUEST = 6
const CNI_NOT_AVAILABLE = 50

interface Refusal {
  readonly ok: false
  readonly code: number
  readonly msg: string
  readonly details: string
  /** The plugin shall decide by itself whether the pod may be one of the mesh's. */
  readonly undecided?: true
}

type Reply = { readonly ok: true } | Refusal

/** Listens. The directory of the socket is made and kept at 0700, the socket at 0600. */
export async function startCniServer(
  options: CniServerOptions,
): Promise<Result<CniServer, AmbitError>> {
  const { socketPath, logger } = options
  const closing = new AbortController()
  const connections = new Set<net.Socket>()
  // Half-open: a client may shut down its side after the request; the answer still has to reach it.
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    connections.add(socket)
    socket.on('close', () => connections.delete(socket))
    socket.on('error', (thrown) =>
      logger.debug({ error: thrown.message }, 'a CNI connection broke'),
    )
    serve(socket, options, closing.signal).catch((thrown: unknown) => {
      logger.error({ error: thrown }, 'a CNI call could not be served')
      socket.destroy()
    })
  })
  server.maxConnections = MAX_CONNECTIONS
  let giveUpName: GiveUpName
  try {
    giveUpName = await listenForRoot(server, socketPath)
  } catch (thrown) {
    server.close()
    return err(
      new AmbitError(
        'AMB_CNI_SOCKET',
        `Cannot listen on the CNI socket ${socketPath}: ${errorMessage(thrown)}`,
        { cause: thrown },
      ),
    )
  }
  server.on('error', (thrown) => logger.error({ error: thrown }, 'the CNI socket failed'))
  return ok({
    async close() {
      closing.abort()
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of connections) socket.destroy()
      await closed
      await giveUpName()
    },
  })
}

async function serve(
  socket: net.Socket,
  options: CniServerOptions,
  closing: AbortSignal,
): Promise<void> {
  const deadline = AbortSignal.timeout(options.deadlineMs ?? REQUEST_DEADLINE_MS)
  const signal = AbortSignal.any([deadline, closing])
  const body = await readFrame(socket, signal)
  if (!body.ok) {
    options.logger.warn({ reason: body.error }, 'refused a CNI connection')
    if (signal.aborted) socket.destroy()
    else sendReply(socket, refusal(CNI_BAD_REQUEST, 'Cannot read the CNI call', body.error))
    return
  }
  const request = readCniRequest(body.value)
  if (!request.ok) {
    options.logger.warn({ reason: request.error }, 'refused a CNI call')
    // A plugin of another version: the node's other pods are not to suffer for it.
    sendReply(socket, {
      ...refusal(CNI_BAD_REQUEST, 'Cannot read the CNI call', request.error),
      undecided: true,
    })
    return
  }
  sendReply(socket, await answer(request.value, options, signal))
}

async function answer(
  request: CniRequest,
  { handlers, logger, deadlineMs = REQUEST_DEADLINE_MS }: CniServerOptions,
  signal: AbortSignal,
): Promise<Reply> {
  if (request.command === 'STATUS') {
    const ready = handlers.isReady()
    return ready.ok
      ? ready
      : {
          ...refusal(CNI_NOT_AVAILABLE, 'The Ambit agent is not ready', ready.error),
          undecided: true,
        }
  }
  const { command, pod } = request
  const log = logger.child({
    cni: command,
    pod: `${pod.namespace}/${pod.name}`,
    uid: pod.uid,
    container: pod.containerId,
  })
  const startedAt = performance.now()
  const asked = ask(request.command, pod, handlers, signal)
  const outcome = await Promise.race([asked, aborted(signal)]).catch((thrown: unknown) =>
    err(thrown instanceof Error ? thrown : new Error(String(thrown))),
  )
  const tookMs = Math.round(performance.now() - startedAt)
  if (outcome === 'aborted') {
    const reason = `no decision within ${deadlineMs} ms`
    log.warn({ tookMs }, `CNI call not answered: ${reason}`)
    return refusal(CNI_TRY_AGAIN, `Cannot enrol pod ${pod.namespace}/${pod.name}`, reason)
  }
  if (outcome.ok) {
    log.debug({ tookMs }, 'CNI call answered')
    return { ok: true }
  }
  log.warn({ tookMs, error: outcome.error }, 'CNI call refused')
  const details =
    outcome.error instanceof AmbitError
      ? `${outcome.error.code}: ${outcome.error.hint}`
      : 'the agent logged the cause'
  const refused = refusal(CNI_TRY_AGAIN, outcome.error.message, details)
  return outcome.error instanceof AmbitError && outcome.error.code === 'AMB_POD_UNKNOWN'
    ? { ...refused, undecided: true }
    : refused
}

async function ask(
  command: 'ADD' | 'CHECK' | 'DEL',
  pod: CniPod,
  handlers: CniHandlers,
  signal: AbortSignal,
): Promise<Result<void, Error>> {
  switch (command) {
    case 'ADD':
      return handlers.onAdd(pod, signal)
    case 'CHECK':
      return handlers.onCheck(pod, signal)
    case 'DEL':
      await handlers.onDel(pod, signal)
      return ok(undefined)
  }
}

const refusal = (code: number, msg: string, details: string): Refusal => ({
  ok: false,
  code,
  msg,
  details,
})

function aborted(signal: AbortSignal): Promise<'aborted'> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve('aborted')
    else signal.addEventListener('abort', () => resolve('aborted'), { once: true })
  })
}

/** Reads one length-prefixed frame; whatever follows it is ignored. */
function readFrame(socket: net.Socket, signal: AbortSignal): Promise<Result<string, string>> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    let size = 0
    let expected: number | undefined
    const finish = (result: Result<string, string>): void => {
      socket.off('data', onData)
      socket.off('end', onEnd)
      socket.off('close', onEnd)
      signal.removeEventListener('abort', onAbort)
      // Keeps reading, and discards, so that the other side's end is noticed.
      socket.resume()
      resolve(result)
    }
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk)
      size += chunk.length
      if (expected === undefined && size >= LENGTH_PREFIX_BYTES) {
        expected = Buffer.concat(chunks, LENGTH_PREFIX_BYTES).readUInt32BE(0)
        if (expected > LARGEST_REQUEST_BYTES)
          finish(err(`the request claims ${expected} bytes; ${LARGEST_REQUEST_BYTES} are allowed`))
      }
      if (expected !== undefined && size >= LENGTH_PREFIX_BYTES + expected) {
        const end = LENGTH_PREFIX_BYTES + expected
        finish(ok(Buffer.concat(chunks).toString('utf8', LENGTH_PREFIX_BYTES, end)))
      }
    }
    const onEnd = (): void => finish(err(`the request ended after ${size} bytes`))
    const onAbort = (): void => finish(err('the request did not arrive in time'))
    socket.on('data', onData)
    socket.on('end', onEnd)
    socket.on('close', onEnd)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
  })
}

function sendReply(socket: net.Socket, reply: Reply): void {
  const body = Buffer.from(JSON.stringify(reply))
  const frame = Buffer.alloc(LENGTH_PREFIX_BYTES + body.length)
  frame.writeUInt32BE(body.length, 0)
  body.copy(frame, LENGTH_PREFIX_BYTES)
  socket.end(frame)
  // A client that does not take its answer must not keep the connection for ever.
  socket.setTimeout(REQUEST_DEADLINE_MS, () => socket.destroy())
}
