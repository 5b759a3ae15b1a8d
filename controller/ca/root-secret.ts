// SPDX-License-Identifier: Apache-2.0
// The root of the mesh, kept in a Secret: made once, by whichever replica comes first, and read by all.
// A Secret that is there but wrong is an error naming the field; it is never overwritten, because a new root
// would cut off every workload that trusts the old one.

import { AmbitError } from '../../mesh/errors.ts'
import {
  type RootDefect,
  type SigningRoot,
  createRoot,
  loadRoot,
} from '../../mesh/identity/root.ts'
import { type KubeApi, type KubeFailure, type Secret, SECRETS } from '../../mesh/kube/index.ts'
import { type Result, err } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'

export interface RootSecretOptions {
  readonly namespace: string
  readonly name: string
  readonly trustDomain: string
  readonly log: Logger
}

export type RootSecretFailure =
  | { readonly kind: 'kube'; readonly failure: KubeFailure }
  | { readonly kind: 'broken'; readonly error: AmbitError }

/** Field names as in Istio's self-signed CA secret, so that a root can be carried over. */
const CERTIFICATE_FIELD = 'ca-cert.pem'
const KEY_FIELD = 'ca-key.pem'
const SECRET_TYPE = 'istio.io/ca-root'
/** Reads and creates alternate when replicas race and somebody deletes; more rounds than this is a fight. */
const MAX_ROUNDS = 5

/** Loads the root, creating it when the Secret does not exist. */
export async function loadOrCreateRoot(
  api: KubeApi,
  options: RootSecretOptions,
): Promise<Result<SigningRoot, RootSecretFailure>> {
  let last: KubeFailure | undefined
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const found = await api.get(SECRETS, { namespace: options.namespace, name: options.name })
    if (found.ok) return rootOf(found.value, options)
    if (found.error.kind !== 'notFound') return err({ kind: 'kube', failure: found.error })
    const created = await api.create(SECRETS, await newRootSecret(options))
    if (created.ok) {
      options.log.info(
        { secret: `${options.namespace}/${options.name}`, trustDomain: options.trustDomain },
        'created a self-signed root',
      )
      return rootOf(created.value, options)
    }
    // Another replica was faster: its root is the one.
    if (created.error.kind !== 'alreadyExists' && created.error.kind !== 'conflict')
      return err({ kind: 'kube', failure: created.error })
    last = created.error
  }
  return err({ kind: 'kube', failure: last ?? unreachable() })
}

async function newRootSecret(options: RootSecretOptions): Promise<Secret> {
  const root = await createRoot({ organization: options.trustDomain })
  return {
    metadata: { namespace: options.namespace, name: options.name },
    type: SECRET_TYPE,
    data: {
      [CERTIFICATE_FIELD]: toBase64(root.certificatePem),
      [KEY_FIELD]: toBase64(root.privateKeyPem),
    },
  }
}

async function rootOf(
  secret: Secret,
  options: RootSecretOptions,
): Promise<Result<SigningRoot, RootSecretFailure>> {
  const certificatePem = fromBase64(secret.data?.[CERTIFICATE_FIELD])
  const privateKeyPem = fromBase64(secret.data?.[KEY_FIELD])
  if (certificatePem === undefined) return broken(options, CERTIFICATE_FIELD, 'is missing or empty')
  if (privateKeyPem === undefined) return broken(options, KEY_FIELD, 'is missing or empty')
  const root = await loadRoot({ certificatePem, privateKeyPem })
  return root.ok ? root : broken(options, fieldOf(root.error), root.error.reason)
}

function fieldOf(defect: RootDefect): string {
  return defect.part === 'certificate' ? CERTIFICATE_FIELD : KEY_FIELD
}

function broken(
  options: RootSecretOptions,
  field: string,
  reason: string,
): Result<never, RootSecretFailure> {
  const message = `Cannot use Secret ${options.namespace}/${options.name}: data["${field}"]: ${reason}`
  return err({ kind: 'broken', error: new AmbitError('AMB_CA_SECRET', message) })
}

function toBase64(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64')
}

function fromBase64(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined
  return Buffer.from(text, 'base64').toString('utf8')
}

function unreachable(): never {
  throw new Error('a round without a failure returns before the last')
}
