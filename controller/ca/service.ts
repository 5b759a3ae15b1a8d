// SPDX-License-Identifier: Apache-2.0
// The certificate service: authenticate, count, authorise, sign, answer. Every outcome is put on record with its reason;
// the caller gets the reason, too, because it is about the caller alone.

import { create } from '@bufbuild/protobuf'
import { type Server, type ServerUnaryCall, status } from '@grpc/grpc-js'
import type { AuditJournal } from '../../mesh/audit/journal.ts'
import type { BucketSize } from '../../mesh/async/bucket.ts'
import type { KeyedBuckets } from '../../mesh/async/keyed-buckets.ts'
import { errorMessage } from '../../mesh/errors.ts'
import {
  CERTIFICATE_SERVICE,
  CLUSTER_ID_HEADER,
  IMPERSONATED_IDENTITY,
} from '../../mesh/identity/ca-protocol.ts'
import { splitCertificates } from '../../mesh/identity/pem.ts'
import {
  type IstioCertificateRequest,
  type IstioCertificateResponse,
  IstioCertificateResponseSchema,
} from '../../mesh/proto/gen/certificate_pb.js'
import { type Result, err } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { GRPC_STATUS } from '../auth/call-gate.ts'
import { type Caller, type Refusal, callerName } from '../auth/caller.ts'
import { type CertificateAsk, recordIssued, recordRefused } from './certificate-audit.ts'
import { type AuthorisationContext, authoriseIdentity } from './node-authorisation.ts'
import type { Authority } from './authority-source.ts'
import type { LeafSigner } from './kubernetes-signer.ts'
import { type IssuedLeaf, LIFETIME_LIMITS, signRequest } from './sign-request.ts'
import type { TokenAuthenticator } from '../auth/token-authenticator.ts'

export interface CertificateServiceOptions extends AuthorisationContext {
  readonly authority: Pick<Authority, 'current'>
  /** Who signs for workloads; the authority if left out. */
  readonly signer?: LeafSigner | undefined
  readonly clusterId: string
  readonly authenticator: TokenAuthenticator
  readonly limiter: KeyedBuckets
  readonly log: Logger
  /** Every certificate issued or refused is put on record there. */
  readonly audit: AuditJournal
  /** Told of every outcome, for metrics. */
  readonly onOutcome?: (outcome: 'issued' | Refusal['kind']) => void
}

/** A full node (250 pods, each its own identity) may prefetch twice over at once; then 20 a second. */
export const CERTIFICATE_RATE: BucketSize = { perSecond: 20, burst: 500 }

type Outcome = Result<IssuedLeaf, Refusal>

/** Adds Istio's certificate service to a gRPC server. */
export function addCertificateService(server: Server, options: CertificateServiceOptions): void {
  server.addService(CERTIFICATE_SERVICE, {
    createCertificate: (
      call: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
      callback: (
        error: { code: status; details: string } | null,
        response?: IstioCertificateResponse,
      ) => void,
    ) => {
      handle(call, options).then(
        (outcome) => {
          options.onOutcome?.(outcome.ok ? 'issued' : outcome.error.kind)
          if (!outcome.ok)
            callback({ code: GRPC_STATUS[outcome.error.kind], details: outcome.error.reason })
          else callback(null, responseOf(outcome.value))
        },
        (thrown: unknown) => {
          options.log.error({ error: errorMessage(thrown) }, 'certificate request crashed')
          callback({ code: status.INTERNAL, details: 'internal error; see the controller log' })
        },
      )
    },
  })
}

async function handle(
  call: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
  options: CertificateServiceOptions,
): Promise<Outcome> {
  const requested = call.request.metadata?.[IMPERSONATED_IDENTITY]
  const authenticated = await authenticateCall(call, options)
  const caller = authenticated.ok ? authenticated.value : undefined
  const ask: CertificateAsk = {
    peer: call.getPeer(),
    caller,
    isAgent: caller !== undefined && options.trustedNodeAccounts.has(callerName(caller)),
    requested: typeof requested === 'string' ? requested : undefined,
  }
  const outcome = authenticated.ok
    ? await issue(call.request, requested, authenticated.value, options)
    : authenticated
  if (outcome.ok) recordIssued(options.audit, ask, outcome.value)
  else recordRefused(options.audit, ask, outcome.error)
  return outcome
}

async function authenticateCall(
  call: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
  options: CertificateServiceOptions,
): Promise<Result<Caller, Refusal>> {
  const cluster = call.metadata.get(CLUSTER_ID_HEADER)[0]?.toString()
  if (cluster !== undefined && cluster !== options.clusterId)
    return err({
      kind: 'unauthenticated',
      reason: `the cluster ${JSON.stringify(cluster.slice(0, 100))} is not known here`,
    })
  return options.authenticator.authenticate(
    call.metadata.get('authorization')[0]?.toString(),
    call.getPeer(),
  )
}

async function issue(
  request: IstioCertificateRequest,
  requested: unknown,
  caller: Caller,
  options: CertificateServiceOptions,
): Promise<Outcome> {
  if (!options.limiter.take(caller.pod?.uid ?? callerName(caller)))
    return err({ kind: 'throttled', reason: 'too many certificate requests from this caller' })
  if (requested !== undefined && typeof requested !== 'string')
    return err({ kind: 'invalid', reason: `${IMPERSONATED_IDENTITY} is not a string` })
  const identity = await authoriseIdentity(options, caller, requested)
  if (!identity.ok) return identity
  return signRequest(
    options.authority.current,
    {
      identity: identity.value,
      csrPem: request.csr,
      ttlSeconds: Number(request.validityDuration),
    },
    LIFETIME_LIMITS,
    Date.now(),
    options.signer,
  )
}

/** The leaf, the certificates between it and its root, one an element, and last the trust bundle. */
function responseOf({ chainPem, rootsPem }: IssuedLeaf): IstioCertificateResponse {
  const chain = splitCertificates(chainPem).map((pem) => `${pem}\n`)
  return create(IstioCertificateResponseSchema, { certChain: [...chain, rootsPem] })
}
