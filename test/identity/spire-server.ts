// SPDX-License-Identifier: Apache-2.0
// A server of SPIRE's two APIs on a Unix socket, whose every answer the test gives by hand, and SVIDs for it to give.

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { create } from '@bufbuild/protobuf'
import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type ServiceError,
  type status,
} from '@grpc/grpc-js'
import { grpcMethod } from '../../mesh/grpc/method.ts'
import type { SigningAuthority } from '../../mesh/identity/authority.ts'
import { createKeyAndCsr } from '../../mesh/identity/csr.ts'
import { splitCertificates } from '../../mesh/identity/pem.ts'
import {
  SpiffeWorkloadAPI,
  type X509SVIDRequest,
  type X509SVIDResponse,
} from '../../mesh/proto/gen/spiffe_workload_api_pb.js'
import {
  DelegatedIdentity,
  type SubscribeToX509BundlesRequest,
  type SubscribeToX509BundlesResponse,
  SubscribeToX509BundlesResponseSchema,
  type SubscribeToX509SVIDsRequest,
  type SubscribeToX509SVIDsResponse,
  SubscribeToX509SVIDsResponseSchema,
} from '../../mesh/proto/gen/spire_delegated_identity_pb.js'
import { within } from '../support/until.ts'

/** A stream that a client has opened. */
class Opened<Request, Response> {
  readonly request: Request
  readonly metadata: Metadata
  /** Aborted when it is over. */
  readonly over: AbortSignal
  readonly #call: ServerWritableStream<Request, Response>

  constructor(call: ServerWritableStream<Request, Response>) {
    this.#call = call
    this.request = call.request
    this.metadata = call.metadata
    const over = new AbortController()
    this.over = over.signal
    call.on('cancelled', () => over.abort())
    call.on('close', () => over.abort())
  }

  send(response: Response): void {
    this.#call.write(response)
  }

  refuse(code: status, details: string): void {
    const error: Partial<ServiceError> = { code, details }
    this.#call.emit('error', error)
  }
}

/** The streams of one method, in the order in which they were opened. */
class Streams<Request, Response> {
  readonly #arrived: Opened<Request, Response>[] = []
  readonly #wanted: ((opened: Opened<Request, Response>) => void)[] = []
  readonly #what: string
  opened = 0

  constructor(what: string) {
    this.#what = what
  }

  readonly handle = (call: ServerWritableStream<Request, Response>): void => {
    // A client that goes away is no fault of the server's.
    call.on('error', () => undefined)
    const opened = new Opened(call)
    this.opened += 1
    const wanted = this.#wanted.shift()
    if (wanted === undefined) this.#arrived.push(opened)
    else wanted(opened)
  }

  next(): Promise<Opened<Request, Response>> {
    const arrived = this.#arrived.shift()
    if (arrived !== undefined) return Promise.resolve(arrived)
    const coming = new Promise<Opened<Request, Response>>((resolve) => this.#wanted.push(resolve))
    return within(coming, `a client to open ${this.#what}`)
  }
}

const SVIDS = grpcMethod(DelegatedIdentity.method.subscribeToX509SVIDs)

/** Plays SPIRE's agent. */
export class SpireServer {
  readonly svids = new Streams<SubscribeToX509SVIDsRequest, SubscribeToX509SVIDsResponse>('SVIDs')
  readonly bundles = new Streams<SubscribeToX509BundlesRequest, SubscribeToX509BundlesResponse>(
    'bundles',
  )
  readonly workload = new Streams<X509SVIDRequest, X509SVIDResponse>('the Workload API')
  /** What is sent in the place of SVIDs, if anything: no message of theirs. */
  rawSvids: Buffer | undefined
  #server: Server | undefined

  /** Listens; again, after close(). */
  async listen(socket: string): Promise<void> {
    const server = new Server()
    const svids = {
      ...SVIDS,
      responseSerialize: (response: SubscribeToX509SVIDsResponse): Buffer =>
        this.rawSvids ?? SVIDS.responseSerialize(response),
    }
    server.addService(
      {
        subscribeToX509SVIDs: svids,
        subscribeToX509Bundles: grpcMethod(DelegatedIdentity.method.subscribeToX509Bundles),
      },
      {
        subscribeToX509SVIDs: this.svids.handle,
        subscribeToX509Bundles: this.bundles.handle,
      },
    )
    server.addService(
      { fetchX509SVID: grpcMethod(SpiffeWorkloadAPI.method.fetchX509SVID) },
      { fetchX509SVID: this.workload.handle },
    )
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(socket, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      )
    })
    this.#server = server
  }

  /** Ends with every stream. */
  close(): void {
    this.#server?.forceShutdown()
    this.#server = undefined
  }
}

/** An SVID with its key, DER. */
export interface TestSvid {
  readonly id: string
  readonly chain: readonly Buffer[]
  readonly key: Buffer
  readonly serialNumber: string
}

export interface TestSvidOptions {
  readonly lifetimeMs?: number
  /** What SPIRE says it is for, where that is not what it is for. */
  readonly id?: string
}

const HOUR_MS = 3_600_000

/** A leaf of this authority, valid for an hour from `nowMs` on. */
export async function svidFor(
  authority: SigningAuthority,
  identity: string,
  nowMs: number,
  options: TestSvidOptions = {},
): Promise<TestSvid> {
  const key = await createKeyAndCsr(identity as Parameters<typeof createKeyAndCsr>[0])
  const chainPem = await authority.sign({
    names: [{ type: 'url', value: identity }],
    publicKeyDer: key.publicKeyDer,
    notBefore: new Date(nowMs - HOUR_MS),
    notAfter: new Date(nowMs + (options.lifetimeMs ?? HOUR_MS)),
  })
  const chain = derOf(chainPem)
  const [leaf] = chain
  if (leaf === undefined) throw new Error('an authority signs a leaf')
  return {
    id: options.id ?? identity,
    chain,
    key: createPrivateKey(key.privateKeyPem).export({ type: 'pkcs8', format: 'der' }),
    serialNumber: new X509Certificate(leaf).serialNumber.toLowerCase(),
  }
}

/** Certificates of a PEM text. */
export function derOf(pem: string): readonly Buffer[] {
  return splitCertificates(pem).map((each) => new X509Certificate(each).raw)
}

/** An answer of the Delegated Identity API. */
export function delegatedAnswer(
  svids: readonly TestSvid[],
  federatesWith: readonly string[] = [],
): SubscribeToX509SVIDsResponse {
  return create(SubscribeToX509SVIDsResponseSchema, {
    federatesWith: [...federatesWith],
    x509Svids: svids.map(({ id, chain, key }) => {
      const [, trustDomain = '', path = ''] = /^spiffe:\/\/([^/]*)(.*)$/.exec(id) ?? []
      return { x509Svid: { certChain: [...chain], id: { trustDomain, path } }, x509SvidKey: key }
    }),
  })
}

/** Roots by trust domain. */
export function bundlesAnswer(
  roots: Readonly<Record<string, readonly Uint8Array[]>>,
): SubscribeToX509BundlesResponse {
  return create(SubscribeToX509BundlesResponseSchema, {
    caCertificates: Object.fromEntries(
      Object.entries(roots).map(([domain, ders]) => [`spiffe://${domain}`, Buffer.concat(ders)]),
    ),
  })
}
