// SPDX-License-Identifier: Apache-2.0
// The identities of a node's pods from SPIRE's agent on that node, by its Delegated Identity API: whoever it trusts as a delegate says by
// selectors which workload is meant, and is given that workload's X.509-SVIDs.

import { create } from '@bufbuild/protobuf'
import { grpcMethod } from '../../grpc/method.ts'
import type { SpiffeId } from '../../model/types.ts'
import {
  DelegatedIdentity,
  type SubscribeToX509BundlesRequest,
  SubscribeToX509BundlesRequestSchema,
  type SubscribeToX509BundlesResponse,
  type SubscribeToX509SVIDsRequest,
  SubscribeToX509SVIDsRequestSchema,
  type SubscribeToX509SVIDsResponse,
} from '../../proto/gen/spire_delegated_identity_pb.js'
import { err, ok, type Result } from '../../result.ts'
import type { Logger } from '../../telemetry/log.ts'
import { type Clock, systemClock } from '../clock.ts'
import { retryDelayMs } from '../schedule.ts'
import { parseSpiffeId } from '../spiffe.ts'
import type { TrustDomains } from '../trust-policy.ts'
import type { CaFailure, CertificateOrder, CertificateSupply } from '../types.ts'
import { KeptStream } from './kept-stream.ts'
import { SocketClient } from './socket.ts'
import type { Bundles, SvidAnswer } from './svid.ts'
import { SvidSubscriptions } from './svid-subscription.ts'

export interface DelegatedIdentitiesOptions {
  /** Of the admin API of SPIRE's agent: unix:///PATH. */
  readonly socket: string
  readonly trust: TrustDomains
  /** Kubernetes' UIDs of the pods of this node that have the identity. */
  readonly podsOf: (identity: SpiffeId) => readonly string[]
  readonly log: Logger
  readonly clock?: Clock
  /** Uniform in [0, 1). */
  readonly random?: () => number
}

const SVIDS = grpcMethod(DelegatedIdentity.method.subscribeToX509SVIDs)
const BUNDLES = grpcMethod(DelegatedIdentity.method.subscribeToX509Bundles)

/** SPIRE says PERMISSION_DENIED of the caller here; of a workload without an entry it answers an empty list. */
const REFUSED =
  'SPIRE does not give this agent the identities of pods: it needs an entry of its own, whose SPIFFE ID is among authorized_delegates'

/** A supply that SPIRE pushes. Roots come by one stream for all. */
export class DelegatedIdentities implements CertificateSupply {
  readonly #options: DelegatedIdentitiesOptions
  readonly #clock: Clock
  readonly #random: () => number
  readonly #socket: SocketClient
  readonly #subscriptions = new SvidSubscriptions<
    SubscribeToX509SVIDsRequest,
    SubscribeToX509SVIDsResponse
  >()
  #bundleStream:
    | KeptStream<SubscribeToX509BundlesRequest, SubscribeToX509BundlesResponse>
    | undefined
  /** What SPIRE told last, which goes on to hold while it is away; or why it has not told anything yet. */
  #bundles: Result<Bundles, CaFailure> | undefined
  #bundleFailures = 0

  constructor(options: DelegatedIdentitiesOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
    this.#socket = new SocketClient(options.socket)
  }

  begin(order: CertificateOrder): void {
    this.#followBundles()
    const { identity } = order
    this.#subscriptions.begin({
      order,
      trust: this.#options.trust,
      socket: this.#socket,
      method: SVIDS,
      request: () =>
        create(SubscribeToX509SVIDsRequestSchema, {
          selectors: this.#selectorsOf(identity).map((value) => ({ type: 'k8s', value })),
        }),
      read: readAnswer,
      bundles: () => this.#bundles,
      noEntry: () => {
        const selectors = this.#selectorsOf(identity).map((value) => `k8s:${value}`)
        return `SPIRE has no entry for ${identity} (selectors ${selectors.join(', ')})`
      },
      refused: REFUSED,
      clock: this.#clock,
      random: this.#random,
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
    this.#bundleStream?.close()
    this.#socket.close()
  }

  /**
   * What is true of the workload. SPIRE gives the entries whose selectors are all among these: those of the service account, and those of
   * one of its pods, as spire-controller-manager makes them.
   */
  #selectorsOf(identity: SpiffeId): readonly string[] {
    const parts = parseSpiffeId(identity)
    if (parts === undefined) return []
    const pods = this.#options.podsOf(identity).map((uid) => `pod-uid:${uid}`)
    return [`ns:${parts.namespace}`, `sa:${parts.serviceAccount}`, ...pods]
  }

  #followBundles(): void {
    if (this.#bundleStream !== undefined) return
    this.#bundleStream = new KeptStream({
      socket: this.#socket,
      method: BUNDLES,
      request: () => create(SubscribeToX509BundlesRequestSchema),
      refused: REFUSED,
      clock: this.#clock,
      onMessage: ({ caCertificates }) => {
        this.#bundleFailures = 0
        this.#bundles = ok(caCertificates)
        this.#subscriptions.look()
      },
      onEnd: (failure) => this.#bundlesEnded(failure),
    })
    this.#bundleStream.open()
  }

  #bundlesEnded(failure: CaFailure): void {
    this.#bundleFailures += 1
    this.#bundleStream?.openAfter(retryDelayMs(this.#bundleFailures, this.#random(), true))
    // The same again and again is news once.
    this.#options.log[this.#bundleFailures === 1 ? 'warn' : 'debug'](
      { reason: failure.message, failures: this.#bundleFailures },
      "the stream of SPIRE's roots ended; trying again until it stands",
    )
    if (this.#bundles?.ok === true) return
    this.#bundles = err(failure)
    this.#subscriptions.look()
  }
}

/** What lacks a part is refused later, as what it is then: another's, or unreadable. */
function readAnswer({ x509Svids, federatesWith }: SubscribeToX509SVIDsResponse): SvidAnswer {
  return {
    federatesWith,
    svids: x509Svids.map(({ x509Svid, x509SvidKey }) => ({
      id: `spiffe://${x509Svid?.id?.trustDomain ?? ''}${x509Svid?.id?.path ?? ''}`,
      chain: x509Svid?.certChain ?? [],
      key: x509SvidKey,
    })),
  }
}
