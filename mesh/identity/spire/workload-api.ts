// SPDX-License-Identifier: Apache-2.0
// The identity of this process itself by the SPIFFE Workload API: whoever serves it finds out by the caller's process which workload that is,
// and gives it its own X.509-SVIDs with the roots to trust.

import { create } from '@bufbuild/protobuf'
import { grpcMethod } from '../../grpc/method.ts'
import type { SpiffeId } from '../../model/types.ts'
import {
  SpiffeWorkloadAPI,
  type X509SVIDRequest,
  X509SVIDRequestSchema,
  type X509SVIDResponse,
} from '../../proto/gen/spiffe_workload_api_pb.js'
import { ok } from '../../result.ts'
import { type Clock, systemClock } from '../clock.ts'
import { parseSpiffeId } from '../spiffe.ts'
import type { TrustDomains } from '../trust-policy.ts'
import type { CertificateOrder, CertificateSupply } from '../types.ts'
import { SocketClient } from './socket.ts'
import { type Bundles, splitDer, type SvidAnswer } from './svid.ts'
import { SvidSubscriptions } from './svid-subscription.ts'

export interface WorkloadApiOptions {
  /** unix:///PATH */
  readonly socket: string
  readonly trust: TrustDomains
  readonly clock?: Clock
  /** Uniform in [0, 1). */
  readonly random?: () => number
}

const FETCH = grpcMethod(SpiffeWorkloadAPI.method.fetchX509SVID)
/** SPIFFE Workload Endpoint 5: without it a call is refused, for a browser could have been made to send it. */
const SECURITY_HEADER = { 'workload.spiffe.io': 'true' } as const

/** A supply for whoever has one identity: its own. */
export class WorkloadApi implements CertificateSupply {
  readonly #options: WorkloadApiOptions
  readonly #clock: Clock
  readonly #socket: SocketClient
  readonly #subscriptions = new SvidSubscriptions<X509SVIDRequest, X509SVIDResponse>()

  constructor(options: WorkloadApiOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#socket = new SocketClient(options.socket)
  }

  begin(order: CertificateOrder): void {
    const { identity } = order
    const noEntry = `SPIRE has no entry for ${identity}`
    this.#subscriptions.begin({
      order,
      trust: this.#options.trust,
      socket: this.#socket,
      method: FETCH,
      request: () => create(X509SVIDRequestSchema),
      headers: SECURITY_HEADER,
      read: readAnswer,
      bundles: (response) => ok(bundlesOf(identity, response)),
      noEntry: () => noEntry,
      // "no identity issued" is said so.
      refused: noEntry,
      clock: this.#clock,
      random: this.#options.random ?? Math.random,
    })
  }

  hasten(order: CertificateOrder): void {
    this.#subscriptions.hasten(order)
  }

  /** Nothing: roots of SPIRE's certificates are SPIRE's, and pushed. */
  renewAll(): void {}

  /** Nothing: who is back is the control plane, not SPIRE. */
  retryFailed(): void {}

  close(): void {
    this.#socket.close()
  }
}

function readAnswer({ svids, federatedBundles }: X509SVIDResponse): SvidAnswer {
  return {
    federatesWith: Object.keys(federatedBundles),
    svids: svids.map(({ spiffeId, x509Svid, x509SvidKey }) => ({
      id: spiffeId,
      // What is no row of certificates is refused as a certificate.
      chain: splitDer(x509Svid) ?? [x509Svid],
      key: x509SvidKey,
    })),
  }
}

/** The roots of others, and those that go with the SVID of this identity. */
function bundlesOf(identity: SpiffeId, { svids, federatedBundles }: X509SVIDResponse): Bundles {
  const own = svids.find(({ spiffeId }) => spiffeId === identity)
  const domain = parseSpiffeId(identity)?.trustDomain
  return own === undefined
    ? federatedBundles
    : { ...federatedBundles, [`spiffe://${domain}`]: own.bundle }
}
