// SPDX-License-Identifier: Apache-2.0
// The Secrets that an authority may be kept in, and what must hold of them. `cacerts` is the operator's own (Istio's plug-in
// certificates) and comes first; without it the mesh makes a root for itself. A Secret that is there but wrong is an
// error naming the field; it is never overwritten, because a new root would cut off every workload that trusts the old one.

import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import {
  type AuthorityDefect,
  type AuthorityPart,
  loadAuthority,
  type SigningAuthority,
} from '../../mesh/identity/authority.ts'
import { proveAuthority } from '../../mesh/identity/prove.ts'
import { createRoot } from '../../mesh/identity/root.ts'
import {
  isMissing,
  type KubeApi,
  type KubeFailure,
  type Secret,
  SECRETS,
} from '../../mesh/kube/index.ts'
import { type Result, err } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'

export interface CaSecretOptions {
  readonly namespace: string
  /** Of the root that the mesh makes for itself. */
  readonly selfMade: string
  /** Of the operator's own authority. */
  readonly plugIn: string
  readonly trustDomain: string
  readonly log: Logger
}

/** Which of the two Secrets. */
export type CaSecretKind = 'selfMade' | 'plugIn'

export type CaSecretFailure =
  | { readonly kind: 'kube'; readonly failure: KubeFailure }
  | { readonly kind: 'broken'; readonly error: AmbitError }

/** An authority and where it came from. */
export interface KeptAuthority {
  readonly kind: CaSecretKind
  readonly authority: SigningAuthority
}

/** Istio's names, of its self-signed CA Secret and of `cacerts` alike, so that both can be carried over. */
const FIELDS: Readonly<Record<AuthorityPart, string>> = {
  certificate: 'ca-cert.pem',
  key: 'ca-key.pem',
  chain: 'cert-chain.pem',
  roots: 'root-cert.pem',
}
const SECRET_TYPE = 'istio.io/ca-root'
/** Reads and creates alternate when replicas race and somebody deletes; more rounds than this is a fight. */
const MAX_ROUNDS = 5

/** Loads the operator's authority, or else the mesh's own, which is made when there is none. */
export async function loadOrCreateAuthority(
  api: KubeApi,
  options: CaSecretOptions,
): Promise<Result<KeptAuthority, CaSecretFailure>> {
  const { namespace, plugIn } = options
  const plugged = await api.get(SECRETS, { namespace, name: plugIn })
  if (plugged.ok) return kept('plugIn', plugged.value, options)
  if (!isMissing(plugged.error)) return err({ kind: 'kube', failure: plugged.error })
  return loadOrCreateRoot(api, options)
}

async function loadOrCreateRoot(
  api: KubeApi,
  options: CaSecretOptions,
): Promise<Result<KeptAuthority, CaSecretFailure>> {
  const { namespace, selfMade: name, trustDomain, log } = options
  let last: KubeFailure | undefined
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const found = await api.get(SECRETS, { namespace, name })
    if (found.ok) return kept('selfMade', found.value, options)
    if (!isMissing(found.error)) return err({ kind: 'kube', failure: found.error })
    const created = await api.create(SECRETS, await newRootSecret(options))
    if (created.ok) {
      log.info({ secret: `${namespace}/${name}`, trustDomain }, 'created a self-signed root')
      return kept('selfMade', created.value, options)
    }
    // Another replica was faster: its root is the one.
    if (created.error.kind !== 'alreadyExists' && created.error.kind !== 'conflict')
      return err({ kind: 'kube', failure: created.error })
    last = created.error
  }
  return err({ kind: 'kube', failure: last ?? unreachable() })
}

async function newRootSecret(options: CaSecretOptions): Promise<Secret> {
  const root = await createRoot({ organization: options.trustDomain })
  return {
    metadata: { namespace: options.namespace, name: options.selfMade },
    type: SECRET_TYPE,
    data: {
      [FIELDS.certificate]: toBase64(root.certificatePem),
      [FIELDS.key]: toBase64(root.privateKeyPem),
    },
  }
}

async function kept(
  kind: CaSecretKind,
  secret: Secret,
  options: CaSecretOptions,
): Promise<Result<KeptAuthority, CaSecretFailure>> {
  const read = await readAuthority(kind, secret, options)
  return read.ok
    ? { ok: true, value: { kind, authority: read.value } }
    : err({ kind: 'broken', error: read.error })
}

/** Reads a Secret and tries what it holds; the error, AMB_CA_SECRET, names the Secret, the field and the reason. */
export async function readAuthority(
  kind: CaSecretKind,
  secret: Secret,
  options: Pick<CaSecretOptions, CaSecretKind | 'namespace' | 'trustDomain'>,
  now = new Date(),
): Promise<Result<SigningAuthority, AmbitError>> {
  const broken = ({ part, reason }: AuthorityDefect): Result<never, AmbitError> => {
    const where = `Secret ${options.namespace}/${options[kind]}`
    const message = `Cannot use ${where}: data["${FIELDS[part]}"]: ${reason}`
    return err(new AmbitError('AMB_CA_SECRET', message))
  }
  const field = (part: AuthorityPart): string | undefined => fromBase64(secret.data?.[FIELDS[part]])
  const certificatePem = field('certificate')
  const privateKeyPem = field('key')
  const chainPem = field('chain')
  const rootsPem = field('roots')
  const absent = { reason: 'is missing or empty' }
  if (certificatePem === undefined) return broken({ part: 'certificate', ...absent })
  if (privateKeyPem === undefined) return broken({ part: 'key', ...absent })
  // The root that the mesh makes is its own bundle, until one is rotated in beside it.
  if (rootsPem === undefined && kind === 'plugIn') return broken({ part: 'roots', ...absent })
  try {
    const pem = {
      certificatePem,
      privateKeyPem,
      ...(chainPem !== undefined && { chainPem }),
      ...(rootsPem !== undefined && { rootsPem }),
    }
    const authority = await loadAuthority(pem, now)
    if (!authority.ok) return broken(authority.error)
    const proof = await proveAuthority(authority.value, options.trustDomain)
    return proof.ok
      ? authority
      : broken({ part: 'certificate', reason: `no certificate of it holds: ${proof.error}` })
  } catch (thrown) {
    // Parsers throw in more ways than they tell of, and a damaged Secret must not end the controller that serves.
    return broken({ part: 'certificate', reason: `it is damaged (${errorMessage(thrown)})` })
  }
}

function toBase64(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64')
}

function fromBase64(text: string | undefined): string | undefined {
  const decoded = Buffer.from(text ?? '', 'base64').toString('utf8')
  return decoded.trim() === '' ? undefined : decoded
}

function unreachable(): never {
  throw new Error('a round without a failure returns before the last')
}
