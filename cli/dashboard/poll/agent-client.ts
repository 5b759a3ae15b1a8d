// SPDX-License-Identifier: Apache-2.0
// Asks one agent again and again, over one connection to each of its ports that is kept as long as it holds: every few seconds a new one
// through the API server would be dearer than what is asked.

import type { Agent, IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { http } from '../../../mesh/node-http.ts'
import { errorMessage } from '../../../mesh/errors.ts'
import { err, ok, type Result } from '../../../mesh/result.ts'
import type { ClusterTarget, PodPort } from '../../cluster/target.ts'

export interface AgentRequest {
  readonly port: number
  readonly path: string
  readonly deadlineMs: number
  /** What is longer is refused, so that nobody who answers in an agent's place fills our memory. */
  readonly mostBytes: number
}

/** What one agent can be asked. */
export interface AgentClient {
  readonly ask: (request: AgentRequest) => Promise<Result<string, string>>
  readonly close: () => void
}

/** A client for the pod of an agent, or for one of another namespace; connects when it is first asked. */
export function agentClient(
  target: ClusterTarget,
  pod: string,
  namespace: string = target.systemNamespace,
): AgentClient {
  const agents = new Map<number, Agent>()
  const agentFor = (port: number): Agent => {
    const agent = agents.get(port) ?? new PodHttpAgent(target, { pod, namespace, port })
    agents.set(port, agent)
    return agent
  }
  return {
    ask: async (request) => {
      const agent = agentFor(request.port)
      const answer = await ask(agent, request)
      // What failed may have left the connection in the middle of an answer.
      if (!answer.ok) {
        agent.destroy()
        agents.delete(request.port)
      }
      return answer
    },
    close: () => {
      for (const agent of agents.values()) agent.destroy()
    },
  }
}

/** What http.Agent asks of a socket that it keeps, and that a connection through something else has not. */
const NO_SOCKET = {
  setKeepAlive: (): void => undefined,
  setTimeout: (): void => undefined,
  ref: (): void => undefined,
  unref: (): void => undefined,
}

/** Connections into the pod in the place of sockets. */
class PodHttpAgent extends http.Agent {
  readonly #connect: () => Promise<Result<Duplex, string>>
  #isDestroyed = false
  readonly #open = new Set<Duplex>()

  constructor(target: ClusterTarget, at: PodPort) {
    super({ keepAlive: true, maxSockets: 1 })
    this.#connect = () => target.connect(at)
  }

  override createConnection(
    _options: unknown,
    done: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    // With an error the stream is not looked at.
    const fail = (reason: unknown): void =>
      done(new Error(errorMessage(reason)), undefined as unknown as Duplex)
    this.#connect().then((connected) => {
      if (!connected.ok) return fail(connected.error)
      const stream = Object.assign(connected.value, NO_SOCKET)
      this.#open.add(stream)
      // Whoever waits for an answer over it is told by the request; of one that is idle nobody needs to hear.
      stream.on('error', () => undefined)
      stream.once('close', () => this.#open.delete(stream))
      if (this.#isDestroyed) stream.destroy()
      done(null, stream)
    }, fail)
  }

  override destroy(): void {
    this.#isDestroyed = true
    super.destroy()
    for (const stream of this.#open) stream.destroy()
  }
}

async function ask(
  agent: Agent,
  { port, path, deadlineMs, mostBytes }: AgentRequest,
): Promise<Result<string, string>> {
  const late = AbortSignal.timeout(deadlineMs)
  try {
    const body = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = { host: `localhost:${port.toString()}` }
      http.get({ agent, path, headers, signal: late }, resolve).once('error', reject)
    })
    const chunks: Buffer[] = []
    let size = 0
    for await (const chunk of body as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > mostBytes) return err(`its answer to ${path} is longer than ${mostBytes} bytes`)
      chunks.push(chunk)
    }
    const status = body.statusCode ?? 0
    if (status !== 200) return err(`it answers ${path} with status ${status}`)
    return ok(Buffer.concat(chunks).toString('utf8'))
  } catch (thrown) {
    return err(
      late.aborted ? `no whole answer within ${deadlineMs / 1_000} s` : errorMessage(thrown),
    )
  }
}
