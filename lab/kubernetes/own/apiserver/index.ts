// SPDX-License-Identifier: Apache-2.0
// An in-memory Kubernetes API server for the lab: as much of the API as kubectl, the official clients
// and Ambit's own programs use. Authentication is real (bearer tokens); authorisation is open: whoever
// is authenticated, service accounts included, may do everything. RBAC objects are stored only.
//
// FROZEN. It serves a newcomer's first minute and the fast tests; what it can is listed in docs/operations.md, "The lab's own
// API server", and held against a true kube-apiserver by test/apiserver. It gets no new features: what needs more (Gateway
// API, status of many kinds, Helm, conformance) runs against a true one.

import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Server, createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { errorMessage } from '../../../../mesh/errors.ts'
import { createLogger } from '../../../../mesh/telemetry/log.ts'
import type { ResourceId } from '../../objects/cluster-api.ts'
import { bootstrap } from './bootstrap.ts'
import { makeServerCertificate } from '../../../machine/server-certificate.ts'
import { ClusterIpPools } from './cluster-ip.ts'
import { PodStreams } from './http/pod-streams.ts'
import { sendFailure } from './http/respond.ts'
import { Router, internalError } from './http/router.ts'
import { WatchHub } from './http/watch.ts'
import { type KubeconfigOptions, kubeconfigText } from '../../objects/kubeconfig-text.ts'
import { type LocalApi, localApi } from './local-api.ts'
import type { PodRuntime } from './pod-runtime.ts'
import { Registry } from './registry.ts'
import { ResourceTable } from './resource-table.ts'
import { Store } from './store.ts'
import { TokenAuthority } from './tokens.ts'

export interface ApiServerOptions {
  /** DNS names and IP addresses for the server certificate; localhost, 127.0.0.1, ::1 and kubernetes.default.svc names are always in. */
  readonly subjectAltNames?: readonly string[] | undefined
  /** Cluster IP range, IPv4. Default 10.96.0.0/16. */
  readonly serviceCidr4?: string | undefined
  /** Cluster IP range, IPv6. Default fd98:96::/112. */
  readonly serviceCidr6?: string | undefined
  /** What serves exec and logs; may also be set later. */
  readonly podRuntime?: PodRuntime | undefined
  /** Cluster domain, for audiences and names. Default cluster.local. */
  readonly clusterDomain?: string | undefined
  /** Watch events kept for resuming watches; older resourceVersions answer 410. Default 20,000. */
  readonly historyLimit?: number | undefined
  /** Interval of bookmarks on watches that allow them, in ms. Default 30,000. */
  readonly bookmarkIntervalMs?: number | undefined
}

export interface ApiServer {
  readonly api: LocalApi
  /** PEM of the CA that signed the server certificate. */
  readonly caPem: string
  /** Bearer token of the cluster administrator: secret. */
  readonly adminToken: string
  /** Issuer claim of service account tokens, and their default audience. */
  readonly issuer: string
  /** Serves on host:port (0 picks one) of the current network namespace; resolves once it listens. */
  listen(host: string, port: number): Promise<{ readonly host: string; readonly port: number }>
  /** Serves on a listening TCP socket, made in whatever network namespace; takes the fd over and closes it. */
  attachListenFd(fd: number): Promise<void>
  kubeconfig(options: KubeconfigOptions): string
  /** Sets what serves exec and logs; the last one set wins. Without one they answer 503. */
  setPodRuntime(runtime: PodRuntime): void
  /** Test hook: forgets the event history, so that a watch from any older resourceVersion gets 410. */
  compact(): void
  /** Test hook: ends every open HTTP watch abruptly (of one resource, if named); returns how many. */
  breakWatches(resource?: ResourceId): number
  /** Stops serving and ends open connections. */
  close(): Promise<void>
}

const DEFAULT_SERVICE_CIDR_4 = '10.96.0.0/16'
const DEFAULT_SERVICE_CIDR_6 = 'fd98:96::/112'
/** A watch that was away this many changes may still resume. */
const DEFAULT_HISTORY = 20_000
const DEFAULT_BOOKMARK_MS = 30_000
const ADMIN_TOKEN_BYTES = 32
/** Clients keep connections for their next request; shorter than theirs would race with it. */
const KEEP_ALIVE_MS = 120_000

function certificateNames(
  options: ApiServerOptions,
  domain: string,
  serviceIps: readonly string[],
) {
  const names = [
    'localhost',
    '127.0.0.1',
    '::1',
    'kubernetes',
    'kubernetes.default',
    'kubernetes.default.svc',
    `kubernetes.default.svc.${domain}`,
    ...serviceIps,
    ...(options.subjectAltNames ?? []),
  ]
  return [...new Set(names)]
}

/** Starts an API server that listens nowhere yet: call listen() or attachListenFd(). */
export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const log = createLogger('lab-apiserver', 'warn')
  const domain = options.clusterDomain ?? 'cluster.local'
  const issuer = `https://kubernetes.default.svc.${domain}`
  const store = new Store(options.historyLimit ?? DEFAULT_HISTORY)
  const resources = new ResourceTable()
  const clusterIps = new ClusterIpPools(
    options.serviceCidr4 ?? DEFAULT_SERVICE_CIDR_4,
    options.serviceCidr6 ?? DEFAULT_SERVICE_CIDR_6,
  )
  const registry = new Registry({ store, resources, clusterIps })
  const tokens = new TokenAuthority(issuer, store, resources)
  const watches = new WatchHub(store, options.bookmarkIntervalMs ?? DEFAULT_BOOKMARK_MS)
  const podStreams = new PodStreams(registry, options.podRuntime)
  const adminToken = randomBytes(ADMIN_TOKEN_BYTES).toString('base64url')
  const router = new Router({ registry, watches, tokens, adminToken, podStreams })
  const api = localApi(registry, tokens)
  const { pools } = clusterIps
  bootstrap(api, pools.IPv4.at(1))
  const certificate = await makeServerCertificate(
    certificateNames(options, domain, [pools.IPv4.at(1), pools.IPv6.at(1)]),
  )

  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    router.handle(request, response).catch((thrown: unknown) => {
      log.error({ url: request.url, error: errorMessage(thrown) }, 'request failed')
      sendFailure(response, internalError(errorMessage(thrown)))
    })
  }
  const onUpgrade = (request: IncomingMessage, socket: Socket): void => {
    router.handleUpgrade(request, socket).catch((thrown: unknown) => {
      log.error({ url: request.url, error: errorMessage(thrown) }, 'upgrade failed')
      socket.destroy()
    })
  }

  const servers = new Set<Server>()
  const sockets = new Set<Socket>()
  const makeServer = (): Server => {
    const server = createServer(
      {
        cert: certificate.certificatePem,
        key: certificate.privateKeyPem,
        minVersion: 'TLSv1.2',
        keepAliveTimeout: KEEP_ALIVE_MS,
        // Watches and exec sessions last as long as their clients want.
        requestTimeout: 0,
      },
      onRequest,
    )
    server.on('upgrade', onUpgrade)
    // closeAllConnections() knows neither handshakes under way nor upgraded connections.
    server.on('connection', (socket: Socket) => {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
    })
    servers.add(server)
    return server
  }
  const startListening = (server: Server, listen: () => void): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject)
      server.once('listening', () => {
        server.off('error', reject)
        server.on('error', (error) => log.error({ error: error.message }, 'listener failed'))
        resolve()
      })
      listen()
    })

  return {
    api,
    caPem: certificate.caPem,
    adminToken,
    issuer,
    listen: async (host, port) => {
      const server = makeServer()
      await startListening(server, () => server.listen(port, host))
      const address = server.address() as AddressInfo
      return { host: address.address, port: address.port }
    },
    attachListenFd: (fd) => {
      const server = makeServer()
      return startListening(server, () => server.listen({ fd }))
    },
    kubeconfig: ({ server, name = 'ambit-lab', token = adminToken, namespace }) =>
      kubeconfigText({ server, caPem: certificate.caPem, token, name, namespace }),
    setPodRuntime: (runtime) => {
      podStreams.runtime = runtime
    },
    compact: () => store.compact(),
    breakWatches: (resource) => watches.breakAll(resource),
    close: async () => {
      watches.breakAll()
      const closed = [...servers].map(
        (server) => new Promise<void>((resolve) => server.close(() => resolve())),
      )
      for (const socket of sockets) socket.destroy()
      await Promise.all(closed)
      servers.clear()
    },
  }
}
