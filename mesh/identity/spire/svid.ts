// SPDX-License-Identifier: Apache-2.0
// From what SPIRE answers to a certificate that may be used: the X.509-SVID of the identity that is wanted, in date, with its own key, below
// a root of its trust domain. Pure.

import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import type { SpiffeId } from '../../model/types.ts'
import { err, ok, type Result } from '../../result.ts'
import { assembleCertificate } from '../assemble.ts'
import { children } from '../der.ts'
import { joinPem } from '../pem.ts'
import type { TrustDomains } from '../trust-policy.ts'
import type { CaFailure, WorkloadCertificate } from '../types.ts'

/** One X.509-SVID, as either of SPIRE's APIs gives it. */
export interface Svid {
  readonly id: string
  /** DER: the leaf, then intermediates. */
  readonly chain: readonly Uint8Array[]
  /** DER, PKCS#8. Never logged. */
  readonly key: Uint8Array
}

/** Roots by trust domain, whose names are as SPIRE writes them (`spiffe://NAME`): DER, one after the other. */
export type Bundles = Readonly<Record<string, Uint8Array>>

/** What SPIRE knows of one workload. */
export interface SvidAnswer {
  readonly svids: readonly Svid[]
  /** The trust domains whose roots the workload may have besides its own. */
  readonly federatesWith: readonly string[]
}

/** Identities of others that a message names; the rest are counted. */
const NAMED = 3

/** The certificate for this identity; where there are several, the one that lasts longest. `noEntry` says that there is none. */
export function certificateOf(
  identity: SpiffeId,
  { svids, federatesWith }: SvidAnswer,
  bundles: Bundles,
  trust: TrustDomains,
  noEntry: string,
  now: Date,
): Result<WorkloadCertificate, CaFailure> {
  if (svids.length === 0) return err({ kind: 'denied', message: noEntry })
  const wanted = svids.filter(({ id }) => id === identity)
  if (wanted.length === 0)
    return invalid(`${noEntry}: it has entries for ${named(svids.map(({ id }) => id))}`)
  const roots = rootsOf(trust, federatesWith, bundles)
  if (!roots.ok) return roots
  const read = wanted.map((svid) => readSvid(identity, svid, roots.value, now))
  const [longest] = read
    .filter((each) => each.ok)
    .sort((one, other) => other.value.notAfter.getTime() - one.value.notAfter.getTime())
  // Where none can be used, the first says why; there is one.
  return longest ?? read[0] ?? invalid(noEntry)
}

/** The certificates of a row of them in DER; undefined when the bytes are anything else. */
export function splitDer(bytes: Uint8Array): readonly Uint8Array[] | undefined {
  let start = 0
  return children(bytes)?.map(({ content }) => {
    const end = content.byteOffset - bytes.byteOffset + content.length
    const whole = bytes.subarray(start, end)
    start = end
    return whole
  })
}

/**
 * The roots of the trust domain and, as far as SPIRE federates the workload with them, of its aliases: of no other domain, for TLS cannot
 * hold a root to its own domain, and an alias's authority is trusted with every identity as it is.
 */
function rootsOf(
  { trustDomain, aliases }: TrustDomains,
  federatesWith: readonly string[],
  bundles: Bundles,
): Result<string, CaFailure> {
  const own = bundles[domainId(trustDomain)]
  if (own === undefined)
    return invalid(
      `SPIRE has no roots of the trust domain ${trustDomain} (--trust-domain): it has those of ${named(Object.keys(bundles))}`,
    )
  const roots: string[] = []
  const federated = aliases.filter((alias) =>
    federatesWith.some((each) => each === domainId(alias)),
  )
  for (const domain of [trustDomain, ...federated]) {
    const bundle = bundles[domainId(domain)]
    // An alias of which SPIRE has no roots yet.
    if (bundle === undefined) continue
    const certificates = splitDer(bundle)
    if (certificates === undefined || certificates.length === 0)
      return invalid(`SPIRE's roots of the trust domain ${domain} are no row of certificates`)
    for (const der of certificates) {
      const pem = pemOf(der)
      if (pem === undefined)
        return invalid(`one of SPIRE's roots of the trust domain ${domain} cannot be read`)
      roots.push(pem)
    }
  }
  return ok(joinPem(roots))
}

function readSvid(
  identity: SpiffeId,
  { chain, key }: Svid,
  rootsPem: string,
  now: Date,
): Result<WorkloadCertificate, CaFailure> {
  const pems = chain.map(pemOf)
  const readable = pems.filter((pem) => pem !== undefined)
  if (readable.length < pems.length)
    return unusable(identity, 'SPIRE answered a chain that cannot be read')
  const pair = readKey(key)
  if (pair === undefined) return unusable(identity, 'SPIRE answered a key that cannot be read')
  const signed = { chainPem: joinPem(readable), rootsPem }
  return assembleCertificate(identity, pair, signed, now, 'SPIRE')
}

function readKey(
  der: Uint8Array,
): { readonly privateKeyPem: string; readonly publicKeyDer: Buffer } | undefined {
  try {
    const key = createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' })
    return {
      privateKeyPem: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
      publicKeyDer: createPublicKey(key).export({ type: 'spki', format: 'der' }),
    }
  } catch {
    // Why is OpenSSL's own code, which helps nobody: whoever calls says which key it is.
    return undefined
  }
}

function pemOf(der: Uint8Array): string | undefined {
  try {
    return new X509Certificate(der).toString()
  } catch {
    // As above.
    return undefined
  }
}

/** As SPIRE names a trust domain. */
const domainId = (name: string): string => `spiffe://${name}`

function named(ids: readonly string[]): string {
  const more = ids.length > NAMED ? ` and ${ids.length - NAMED} more` : ''
  return ids.length === 0 ? 'nobody' : `${ids.slice(0, NAMED).join(', ')}${more}`
}

function unusable(identity: SpiffeId, reason: string): Result<never, CaFailure> {
  return invalid(`Cannot use the certificate for ${identity}: ${reason}`)
}

function invalid(message: string): Result<never, CaFailure> {
  return err({ kind: 'invalid', message })
}
