// SPDX-License-Identifier: Apache-2.0
// An in-memory Kubernetes API server for the lab: as much of the API as kubectl, the official clients
// and Ambit's own programs use. Authentication is real (bearer tokens); authorisation is open: whoever
// is authenticated, service accounts included, may do everything. RBAC objects are stored only.

import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Server, createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { errorMessage } from '../../../../mesh/errors.ts'
import { createLogger } from '../../../../mesh/telemetry/log.ts'
import { bootstrap } from './bootstrap.ts'
import { makeServerCertificate } from './certificates.ts'
import { ClusterIpPools } from './cluster-ip.ts'
import { PodStreams } from './http/pod-streams.ts'
import { sendFailure } from './http/respond.ts'
import { Router, internalError } from './http/router.ts'
import { WatchHub } from './http/watch.ts'
import { kubeconfigText } from './kubeconfig.ts'
import { localApi } from './local-api.ts'
import { Registry } from './registry.ts'
import { ResourceTable } from './resources.ts'
import { Store } from './store.ts'
import { TokenAuthority } from './tokens.ts'
import type { ApiServer, ApiServerOptions } from './types.ts'

export type * from './types.ts'

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
