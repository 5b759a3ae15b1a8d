// SPDX-License-Identifier: Apache-2.0
// A server, a pool and sockets between them on loopback: what the HBONE tests are told with.

import { once } from 'node:events'
import { type AddressInfo, type Socket, connect, createServer } from 'node:net'
import koffi from 'koffi'
import type { Test } from 'tap'
import { socketEngine } from '../support/engine.ts'
import { errorMessage } from '../../mesh/errors.ts'
import type { LifetimeTuning } from '../../mesh/hbone/lifetime.ts'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { createHbonePool } from '../../mesh/hbone/pool.ts'
import { createHboneServer } from '../../mesh/hbone/server.ts'
import { HboneSources, type SourceBounds } from '../../mesh/hbone/sources.ts'
import type {
  HboneFailure,
  HbonePool,
  HboneServer,
  HboneServerOptions,
  IncomingTunnel,
  OpenedTunnel,
  PoolTarget,
} from '../../mesh/hbone/types.ts'
import type { TrustPolicy } from '../../mesh/identity/trust-policy.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import type { IpAddress, SpiffeId } from '../../mesh/model/types.ts'
import { err, ok } from '../../mesh/result.ts'
import { type TestRoot, makeCertificate, makeRoot, testIdentity } from './certs.ts'

const LOOPBACK = '127.0.0.1' as IpAddress
type Refused = Parameters<HboneServerOptions['onRefused']>[0]

/** Why a TCP connect failed, as the `dial` of a pool tells it. */
export function dialFailure(error: unknown): HboneFailure {
  const { code } = error as NodeJS.ErrnoException
  return { reason: 'connectFailed', message: `cannot connect: ${errorMessage(error)}`, code }
}

/** A listening TCP socket as a bare fd that nobody else owns, as the agent's namespace worker hands it over. */
export async function listeningFd(): Promise<{ readonly fd: number; readonly port: number }> {
  const dup = koffi.load('libc.so.6').func('int dup(int)')
  const server = createServer().listen(0, LOOPBACK)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const handle: unknown = Reflect.get(server, '_handle')
  const fd = dup(Reflect.get(handle as object, 'fd')) as number
  server.close()
  return { fd, port }
}

export interface World {
  readonly root: TestRoot
  readonly clientCertificate: WorkloadCertificate
  readonly serverCertificate: WorkloadCertificate
  readonly server: HboneServer
  readonly port: number
  readonly pool: HbonePool
  readonly target: PoolTarget
  /** Everything onRefused reported, in order. */
  readonly refused: Refused[]
  /** Resolves with the first refusal that matches. */
  refusal(matches: (event: Refused) => boolean): Promise<Refused>
  readonly dials: () => number
  /** Raw sockets of the pool's connections, for cutting them. */
  readonly dialled: Socket[]
  /** New connections of the pool use this certificate. */
  renewClient(certificate: WorkloadCertificate): void
  open(authority?: string): Promise<OpenedTunnel>
}

export interface WorldOptions {
  readonly onTunnel?: (incoming: IncomingTunnel) => void
  readonly isFromOutside?: HboneServerOptions['isFromOutside']
  readonly isKnownSource?: HboneServerOptions['isKnownSource']
  readonly limits?: Partial<SourceBounds>
  /** Called when a connection of the pool has been made, before its handshake. */
  readonly onDialled?: () => void
  /** Shared with other worlds: several pods of one worker. */
  readonly sources?: HboneSources
  readonly owner?: string
  readonly root?: TestRoot
  readonly expected?: readonly SpiffeId[]
  readonly clientCertificate?: (root: TestRoot) => Promise<WorkloadCertificate>
  readonly serverCertificate?: (root: TestRoot) => Promise<WorkloadCertificate>
  /** Of both ends. */
  readonly trust?: TrustPolicy
  readonly idleReleaseMs?: number
  readonly answerDeadlineMs?: number
  readonly maxStreams?: number
  readonly lifetime?: LifetimeTuning
  readonly maxConnectionsPerSource?: number
  readonly pingIntervalMs?: number
  readonly pingTimeoutMs?: number
  /** Whether Node alone moves the bytes, as where no engine was built. */
  readonly isWithoutEngine?: boolean
  /** The account of server and pool together. */
  readonly memory?: HeldMemory
}

/** Accepts every tunnel and sends back what comes. */
export function echo(incoming: IncomingTunnel): void {
  const tunnel = incoming.accept({})
  tunnel.on('error', () => undefined)
  tunnel.pipe(tunnel)
}

/** A listening server and a pool that dials it; both are drained at the end of the test. */
export async function makeWorld(t: Test, options: WorldOptions = {}): Promise<World> {
  const root = options.root ?? (await makeRoot())
  const clientCertificate =
    (await options.clientCertificate?.(root)) ??
    (await makeCertificate(root, testIdentity('client')))
  const serverCertificate =
    (await options.serverCertificate?.(root)) ??
    (await makeCertificate(root, testIdentity('server')))
  const memory = options.memory ?? new HeldMemory(HELD_LIMIT_BYTES)
  const engine = options.isWithoutEngine === true ? undefined : socketEngine()
  const refused: Refused[] = []
  const watchers = new Set<(event: Refused) => void>()
  const server = createHboneServer({
    certificate: serverCertificate,
    isFromOutside: options.isFromOutside ?? (() => true), // these tests have nothing but loopback
    isKnownSource: options.isKnownSource ?? (() => false),
    sources: options.sources ?? new HboneSources(options.limits),
    ...(options.owner !== undefined && { owner: options.owner }),
    ...(options.trust && { trust: options.trust }),
    onTunnel: options.onTunnel ?? echo,
    onRefused: (event) => {
      refused.push(event)
      for (const watcher of watchers) watcher(event)
    },
    ...(options.maxStreams !== undefined && { maxStreams: options.maxStreams }),
    ...(options.maxConnectionsPerSource !== undefined && {
      maxConnectionsPerSource: options.maxConnectionsPerSource,
    }),
    ...(options.pingIntervalMs !== undefined && { pingIntervalMs: options.pingIntervalMs }),
    ...(options.pingTimeoutMs !== undefined && { pingTimeoutMs: options.pingTimeoutMs }),
    ...(options.lifetime && { lifetime: options.lifetime }),
    memory,
    engine,
  })
  const { fd, port } = await listeningFd()
  await server.listen({ fd })
  const dialled: Socket[] = []
  let current = clientCertificate
  const pool = createHbonePool({
    certificate: () => Promise.resolve(ok(current)),
    ...(options.lifetime && { lifetime: options.lifetime }),
    ...(options.trust && { trust: options.trust }),
    dial: async (target, signal) => {
      const socket = connect({ port: target.destination.port, host: target.destination.address })
      try {
        await once(socket, 'connect', { signal })
      } catch (error) {
        socket.destroy()
        return err(dialFailure(error))
      }
      dialled.push(socket)
      options.onDialled?.()
      return ok(socket)
    },
    ...(options.idleReleaseMs !== undefined && { idleReleaseMs: options.idleReleaseMs }),
    ...(options.answerDeadlineMs !== undefined && { answerDeadlineMs: options.answerDeadlineMs }),
    memory,
    engine,
  })
  const target: PoolTarget = {
    sourceIdentity: clientCertificate.identity,
    sourceIp: LOOPBACK,
    destination: { address: LOOPBACK, port },
    expectedIdentities: options.expected ?? [serverCertificate.identity],
  }
  t.teardown(async () => {
    await pool.drain(0)
    await server.drain(0)
  })
  return {
    root,
    clientCertificate,
    serverCertificate,
    server,
    port,
    pool,
    target,
    refused,
    refusal: (matches) => {
      const seen = refused.find(matches)
      if (seen) return Promise.resolve(seen)
      return new Promise((resolve) => {
        const watcher = (event: Refused): void => {
          if (!matches(event)) return
          watchers.delete(watcher)
          resolve(event)
        }
        watchers.add(watcher)
      })
    },
    dials: () => dialled.length,
    dialled,
    renewClient: (renewed) => {
      current = renewed
    },
    open: async (authority = '127.0.0.1:80') => {
      const opened = await pool.open(target, authority, {}, AbortSignal.timeout(10_000))
      if (!opened.ok) throw new Error(`${opened.error.reason}: ${opened.error.message}`)
      return opened.value
    },
  }
}
