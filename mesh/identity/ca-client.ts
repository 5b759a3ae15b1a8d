// SPDX-License-Identifier: Apache-2.0
// Asks a certificate authority that speaks Istio's CreateCertificate over gRPC: our controller, or istiod.
// The token and the root files are read again for each call, because the kubelet replaces both in place.

import { readFile } from 'node:fs/promises'
import { create } from '@bufbuild/protobuf'
import { Client, Metadata, type ServiceError, status } from '@grpc/grpc-js'
import { errorMessage } from '../errors.ts'
import { IstioCertificateRequestSchema } from '../proto/gen/certificate_pb.js'
import { type Result, err, ok } from '../result.ts'
import { secureChannel } from '../grpc/channel.ts'
import type { Dialled, ServiceRoute } from '../grpc/service-route.ts'
import { CLUSTER_ID_HEADER, CREATE_CERTIFICATE, IMPERSONATED_IDENTITY } from './ca-protocol.ts'
import { joinPem } from './pem.ts'
import { readRoots, type RootSource } from './root-source.ts'
import type { CaFailure, CertificateAuthority, SignedChain, SignRequest } from './types.ts'

export interface CaClientOptions {
  /** host:port of the CA. */
  readonly address: string
  /** The roots that the CA's own certificate must chain to. */
  readonly roots: RootSource
  /** File with the bearer token (a projected service account token, audience istio-ca). */
  readonly tokenFile: string
  readonly clusterId: string
  /** The name the CA's certificate must have, when it is not the host of the address. */
  readonly serverName?: string
  /** Asked before each connection where that address is to be dialled; without one, by its name. */
  readonly route?: Pick<ServiceRoute, 'dial'> | undefined
  /** True for a node, which asks on behalf of its pods; false for a workload, which gets its own identity. */
  readonly impersonate?: boolean
}

/** A CertificateAuthority over gRPC. close() when done. */
export class CaClient implements CertificateAuthority {
  readonly #options: CaClientOptions
  #channel: { readonly rootsPem: string; readonly client: Client } | undefined

  constructor(options: CaClientOptions) {
    this.#options = options
  }

  async sign(request: SignRequest, signal: AbortSignal): Promise<Result<SignedChain, CaFailure>> {
    const files = await this.#readFiles()
    if (!files.ok) return files
    if (signal.aborted) return err({ kind: 'unavailable', message: 'the request was given up' })
    const metadata = new Metadata()
    metadata.set('authorization', `Bearer ${files.value.token}`)
    metadata.set(CLUSTER_ID_HEADER, this.#options.clusterId)
    const message = create(IstioCertificateRequestSchema, {
      csr: request.csrPem,
      validityDuration: BigInt(request.ttlSeconds),
      ...(this.#options.impersonate !== false && {
        metadata: { [IMPERSONATED_IDENTITY]: request.identity },
      }),
    })
    const client = await this.#clientFor(files.value.rootsPem)
    if (signal.aborted) return err({ kind: 'unavailable', message: 'the request was given up' })
    return new Promise((resolve) => {
      const call = client.makeUnaryRequest(
        CREATE_CERTIFICATE.path,
        CREATE_CERTIFICATE.requestSerialize,
        CREATE_CERTIFICATE.responseDeserialize,
        message,
        metadata,
        (error, response) => {
          signal.removeEventListener('abort', onAbort)
          // Who did not answer may be gone without a word, and TCP would go on hoping for a quarter of an hour.
          if (error !== null && (error.code === status.UNAVAILABLE || signal.aborted))
            this.#drop(client)
          // What gRPC says of a call that was given up here is that it was.
          if (error !== null && signal.aborted) resolve(err(givenUp(signal, this.#options.address)))
          else if (error !== null) resolve(err(failureOf(error, this.#options.address)))
          else resolve(chainOf(response?.certChain ?? []))
        },
      )
      const onAbort = (): void => call.cancel()
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  close(): void {
    this.#channel?.client.close()
    this.#channel = undefined
  }

  async #readFiles(): Promise<Result<{ token: string; rootsPem: string }, CaFailure>> {
    const { tokenFile, roots } = this.#options
    try {
      const [token, rootsPem] = await Promise.all([readFile(tokenFile, 'utf8'), readRoots(roots)])
      if (token.trim() === '')
        return err({ kind: 'unavailable', message: `the token file ${tokenFile} is empty` })
      return ok({ token: token.trim(), rootsPem })
    } catch (thrown) {
      return err({ kind: 'unavailable', message: `Cannot ask the CA: ${errorMessage(thrown)}` })
    }
  }

  /** A channel that could not connect fails all calls until its back-off is over; the next attempt dials anew. Calls under way go on. */
  #drop(client: Client): void {
    if (this.#channel?.client !== client) return
    this.#channel = undefined
    client.close()
  }

  async #clientFor(rootsPem: string): Promise<Client> {
    if (this.#channel?.rootsPem === rootsPem) return this.#channel.client
    const { route } = this.#options
    const dialled: Dialled = (await route?.dial(this.#options.address)) ?? this.#options
    // Several may have asked the way at once: one client is enough.
    if (this.#channel?.rootsPem === rootsPem) return this.#channel.client
    this.#channel?.client.close()
    const { address, serverName = this.#options.serverName } = dialled
    const channel = secureChannel(address, Buffer.from(rootsPem), serverName)
    const client = new Client(address, channel.credentials, {
      ...channel.options,
      // Channels of one process are pooled by target; roots differ here, so each client has its own.
      'grpc.use_local_subchannel_pool': 1,
    })
    this.#channel = { rootsPem, client }
    return client
  }
}

/** The answer's last element is the trust bundle; what comes before it is the chain, leaf first. */
function chainOf(certChain: readonly string[]): Result<SignedChain, CaFailure> {
  const rootsPem = certChain.at(-1)
  if (rootsPem === undefined || certChain.length < 2)
    return err({
      kind: 'invalid',
      message: `the CA answered ${certChain.length} certificates; a leaf and a root are needed`,
    })
  return ok({ chainPem: joinPem(certChain.slice(0, -1)), rootsPem: joinPem([rootsPem]) })
}

function givenUp({ reason }: AbortSignal, address: string): CaFailure {
  return { kind: 'unavailable', message: `the CA at ${address}: ${errorMessage(reason)}` }
}

function failureOf(error: ServiceError, address: string): CaFailure {
  const reason = error.details === '' ? error.message : error.details
  const message = `the CA at ${address} answered ${status[error.code] ?? error.code}: ${reason}`
  switch (error.code) {
    case status.PERMISSION_DENIED:
    case status.UNAUTHENTICATED:
      return { kind: 'denied', message }
    case status.INVALID_ARGUMENT:
    case status.UNIMPLEMENTED:
      return { kind: 'invalid', message }
    default:
      return { kind: 'unavailable', message }
  }
}
