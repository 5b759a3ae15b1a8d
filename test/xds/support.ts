// SPDX-License-Identifier: Apache-2.0
// What the discovery tests share: a server certificate, a server on loopback, and promises for events.
// TEST_LOG_LEVEL=debug shows what client and server say.

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as x509 from '../../mesh/identity/x509.ts'
import { Server, ServerCredentials, status } from '@grpc/grpc-js'
import { pino } from 'pino'
import type { Service, Workload } from '../../mesh/model/types.ts'
import { err, ok } from '../../mesh/result.ts'
import type { NodeIdentity } from '../../mesh/xds/node.ts'
import type { ResourceInput } from '../../mesh/xds/resource-store.ts'
import type { ResourceType } from '../../mesh/xds/resource-type.ts'
import {
  addXdsService,
  type Offer,
  type XdsCaller,
  XDS_SERVER_OPTIONS,
  XdsServer,
  type XdsServerOptions,
} from '../../mesh/xds/server.ts'
import { Waiter } from '../support/waiter.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'

export const silent = pino({ level: process.env.TEST_LOG_LEVEL ?? 'silent' })
export const TOKEN = 'the-right-token'

export const NODE: NodeIdentity = {
  role: 'ztunnel',
  address: '10.244.0.9',
  podName: 'ambit-agent-x',
  namespace: 'ambit-system',
  nodeName: 'node-a',
  clusterId: 'Kubernetes',
  clusterDomain: 'cluster.local',
}

/** A name in the server's certificate, beside 127.0.0.1 and ::1. */
export const SERVER_NAME = 'controller.ambit-system.svc'

export interface Pki {
  readonly rootPem: string
  readonly certificatePem: string
  readonly keyPem: string
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const DAY_MS = 86_400_000

/** A self-made root and a server certificate for 127.0.0.1 under it. */
export async function makePki(): Promise<Pki> {
  const rootKeys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const notBefore = new Date(Date.now() - DAY_MS)
  const notAfter = new Date(Date.now() + DAY_MS)
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=test root',
    keys: rootKeys,
    notBefore,
    notAfter,
    signingAlgorithm: ALGORITHM,
    extensions: [new x509.BasicConstraintsExtension(true, 1, true)],
  })
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const leaf = await x509.X509CertificateGenerator.create({
    subject: 'CN=controller',
    issuer: root.subject,
    publicKey: keys.publicKey,
    signingKey: rootKeys.privateKey,
    signingAlgorithm: ALGORITHM,
    notBefore,
    notAfter,
    extensions: [
      new x509.SubjectAlternativeNameExtension([
        { type: 'ip', value: '127.0.0.1' },
        { type: 'ip', value: '::1' },
        { type: 'dns', value: SERVER_NAME },
      ]),
    ],
  })
  const key = await crypto.subtle.exportKey('pkcs8', keys.privateKey)
  return {
    rootPem: root.toString('pem'),
    certificatePem: leaf.toString('pem'),
    keyPem: x509.PemConverter.encode(key, 'PRIVATE KEY'),
  }
}

/** A directory with root.pem and token, removed by the returned function. */
export async function makeFiles(
  rootPem: string,
  token: string,
): Promise<{
  readonly rootFile: string
  readonly tokenFile: string
  readonly remove: () => Promise<void>
}> {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-xds-'))
  const rootFile = join(directory, 'root.pem')
  const tokenFile = join(directory, 'token')
  await writeFile(rootFile, rootPem)
  await writeFile(tokenFile, `${token}\n`)
  return { rootFile, tokenFile, remove: () => rm(directory, { recursive: true, force: true }) }
}

/** Address resources as bytes, so that a test may offer what makes no sense. */
const RAW_ADDRESS: ResourceType<ResourceInput> = {
  typeUrl: ADDRESS.typeUrl,
  name: ({ name }) => name,
  aliases: ({ aliases }) => aliases,
  encode: ({ payload }) => payload,
  decode: () => {
    throw new Error('a server reads no resources')
  },
}

export interface RunningServer {
  readonly xds: XdsServer
  /** What it offers of workloads and services, to whoever is let in. */
  readonly addresses: Offer<ResourceInput>
  readonly port: number
  readonly refusals: string[]
  /** Waits until this many clients are connected. */
  readonly clientCount: (count: number) => Promise<void>
  readonly stop: () => void
}

/** A discovery server over TLS on loopback that lets in the bearer of TOKEN. */
export async function startServer(
  pki: Pki,
  port = 0,
  overrides: Partial<XdsServerOptions<XdsCaller>> = {},
  host = '127.0.0.1',
): Promise<RunningServer> {
  const refusals: string[] = []
  const clientCounts = new Waiter()
  let streams = 0
  const xds = new XdsServer({
    logger: silent,
    // All clients of a test have one name.
    streamsOf: () => String((streams += 1)),
    onClientCount: clientCounts.poke,
    authenticate: async (metadata) =>
      metadata.get('authorization')[0] === `Bearer ${TOKEN}`
        ? ok({ name: 'agent' })
        : err({ code: status.UNAUTHENTICATED, message: 'bad token' }),
    onRefusal: ({ message }) => void refusals.push(message),
    ...overrides,
  })
  const addresses = xds.offer(RAW_ADDRESS, () => true)
  const server = new Server(XDS_SERVER_OPTIONS)
  addXdsService(server, xds)
  const credentials = ServerCredentials.createSsl(null, [
    { cert_chain: Buffer.from(pki.certificatePem), private_key: Buffer.from(pki.keyPem) },
  ])
  const bound = await new Promise<number>((resolve, reject) =>
    server.bindAsync(`${host}:${port}`, credentials, (error, actual) =>
      error === null ? resolve(actual) : reject(error),
    ),
  )
  const stop = (): void => {
    xds.stop()
    server.forceShutdown()
  }
  const clientCount = (count: number) => clientCounts.until(() => xds.clientCount === count)
  return { xds, addresses, port: bound, refusals, clientCount, stop }
}

export function workloadResource(workload: Workload): ResourceInput {
  const payload = ADDRESS.encode({ kind: 'workload', workload })
  return { name: workload.uid, aliases: workload.addresses.map((ip) => `/${ip}`), payload }
}

export function serviceResource(service: Service): ResourceInput {
  return { name: service.key, aliases: [], payload: ADDRESS.encode({ kind: 'service', service }) }
}
