// SPDX-License-Identifier: Apache-2.0
// An authority that signs for the mesh: its own certificate and key, what leads from there to a root, and the roots that the
// mesh shall trust. Read from PEM with every check that keeps a wrong or damaged one from signing; where it is kept, and
// who may have a certificate, are the caller's affair.

import { createHmac, X509Certificate } from 'node:crypto'
import { errorMessage } from '../errors.ts'
import { type Result, err, ok } from '../result.ts'
import { isInDate, isSelfSigned, pathToRoot } from './chain.ts'
import { issueLeaf, type LeafRequest } from './issue.ts'
import { joinPem, splitCertificates } from './pem.ts'
import { readSigningKey, weaknessOf } from './signing-key.ts'
import { nameOf } from './usable-chain.ts'
import { hasKeyIdentifier, mayIssueBelow, maySignCertificates } from './x509.ts'

export interface SigningAuthority {
  /** The certificate whose key signs. */
  readonly issuerPem: string
  /** What goes with each leaf: the issuer and what lies between it and the root; empty where the root itself signs. */
  readonly chainPem: string
  /** The roots of the mesh, the issuer's own first: so the text changes, too, when the issuer moves to another root. */
  readonly bundlePem: string
  readonly notBefore: Date
  /** When the first certificate between a leaf and its root ends; no leaf outlives it. */
  readonly notAfter: Date
  /** A secret for this purpose, as base64url: the same for whoever holds the authority, and of no use to learn its key. */
  derive(purpose: string): string
  /** Signs a leaf: its PEM, and the chain after it. */
  sign(leaf: LeafRequest): Promise<string>
}

/** An authority as text. The key is secret: never logged. */
export interface AuthorityPem {
  readonly certificatePem: string
  readonly privateKeyPem: string
  /** The certificate and intermediates, in any order, with or without the root; the certificate alone when left out. */
  readonly chainPem?: string
  /** Roots; the certificate itself when left out. */
  readonly rootsPem?: string
}

/** The parts of an authority, as a defect names them. */
export type AuthorityPart = 'certificate' | 'key' | 'chain' | 'roots'

/** What is wrong with an authority, and in which of its parts. */
export interface AuthorityDefect {
  readonly part: AuthorityPart
  readonly reason: string
}

/** Reads an authority and checks that it may sign. */
export async function loadAuthority(
  pem: AuthorityPem,
  now = new Date(),
): Promise<Result<SigningAuthority, AuthorityDefect>> {
  const issuers = readCertificates(pem.certificatePem, 'certificate')
  if (!issuers.ok) return issuers
  const [issuer, ...more] = issuers.value
  if (issuer === undefined || more.length > 0)
    return defect(
      'certificate',
      `expected exactly one PEM certificate, found ${issuers.value.length}`,
    )
  const chain = readCertificates(pem.chainPem ?? '', 'chain')
  if (!chain.ok) return chain
  const roots = readCertificates(pem.rootsPem ?? pem.certificatePem, 'roots')
  if (!roots.ok) return roots
  if (roots.value.length === 0) return defect('roots', 'it holds no PEM certificate')
  const broken =
    defectOfAuthority(issuer, 'certificate', now) ??
    roots.value.map((root) => defectOfRoot(root)).find((found) => found !== undefined)
  if (broken !== undefined) return err(broken)
  const twins = indistinct(roots.value)
  if (twins !== undefined)
    return defect(
      'roots',
      `two roots are named ${nameOf(twins)} and have no subject key identifiers to tell them apart by`,
    )
  const key = await readSigningKey(pem.privateKeyPem)
  if (!key.ok) return defect('key', key.error)
  if (!issuer.checkPrivateKey(key.value.keyObject))
    return defect('key', 'does not belong to the certificate')
  const path = checkedPath(issuer, chain.value, roots.value, now)
  if (!path.ok) return path
  const root = path.value.at(-1)
  // A root that has ended vouches for nothing, and need not keep the others from doing so.
  const others = roots.value.filter((each) => isInDate(each, now))
  const chainPem = joinPem(path.value.slice(0, -1).map(String))
  const issuerPem = joinPem([issuer.toString()])
  const notAfter = earliest(path.value.map((each) => each.validToDate))
  return ok({
    issuerPem,
    chainPem,
    bundlePem: bundleOf(root === undefined ? others : [root, ...others]),
    notBefore: issuer.validFromDate,
    notAfter,
    derive: (purpose) =>
      createHmac('sha256', key.value.keyObject.export({ type: 'pkcs8', format: 'der' }))
        .update(`ambit ${purpose}`)
        .digest('base64url'),
    sign: async (leaf) =>
      (await issueLeaf({ issuerPem, notAfter, key: key.value }, leaf)) + chainPem,
  })
}

/** From the issuer up to its root, every certificate on the way sound. */
function checkedPath(
  issuer: X509Certificate,
  chain: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  now: Date,
): Result<readonly X509Certificate[], AuthorityDefect> {
  const path = pathToRoot(
    issuer,
    chain,
    roots,
    (each) => defectOfAuthority(each, 'chain', now) === undefined,
  )
  if (path === undefined)
    return defect(
      'chain',
      `the chain does not lead from ${nameOf(issuer)} to any of the roots (${roots.map(nameOf).join('; ')})`,
    )
  for (const [below, each] of path.entries()) {
    const part = partOf(below, path.length)
    const broken = defectOfAuthority(each, part, now)
    if (broken !== undefined) return err(broken)
    // The issuer has leaves below it, the one above it another authority, and so on.
    if (!mayIssueBelow(each.raw, below))
      return defect(
        part,
        `${nameOf(each)} may not have ${below} authorities below it (path length)`,
      )
  }
  return ok(path)
}

/** Where the certificate at this place of a path was read. */
function partOf(place: number, length: number): AuthorityPart {
  if (place === 0) return 'certificate'
  return place === length - 1 ? 'roots' : 'chain'
}

function readCertificates(
  pem: string,
  part: AuthorityPart,
): Result<readonly X509Certificate[], AuthorityDefect> {
  try {
    return ok(splitCertificates(pem).map(readCertificate))
  } catch (thrown) {
    return defect(part, `not a certificate (${errorMessage(thrown)})`)
  }
}

/** Throws for a damaged one, also where OpenSSL would only find out when it is asked for the key or an extension. */
function readCertificate(pem: string): X509Certificate {
  const certificate = new X509Certificate(pem)
  weaknessOf(certificate.publicKey)
  maySignCertificates(certificate.raw)
  hasKeyIdentifier(certificate.raw)
  mayIssueBelow(certificate.raw, 0)
  return certificate
}

/** What keeps a certificate from being an authority. */
function defectOfAuthority(
  certificate: X509Certificate,
  part: AuthorityPart,
  now: Date,
): AuthorityDefect | undefined {
  const name = nameOf(certificate)
  const reason = ((): string | undefined => {
    if (!maySignCertificates(certificate.raw))
      return `${name} is not a CA certificate that may sign others (key usage)`
    if (!certificate.ca) return `${name} is not a CA certificate`
    if (certificate.validToDate <= now) return `${name} expired at ${certificate.validTo}`
    if (certificate.validFromDate > now)
      return `${name} is not valid before ${certificate.validFrom}`
    const weakness = weaknessOf(certificate.publicKey)
    return weakness === undefined ? undefined : `${name} has ${weakness}`
  })()
  return reason === undefined ? undefined : { part, reason }
}

function defectOfRoot(root: X509Certificate): AuthorityDefect | undefined {
  if (!isSelfSigned(root))
    return { part: 'roots', reason: `${nameOf(root)} is not a root: it is not signed by itself` }
  const weakness = weaknessOf(root.publicKey)
  return weakness === undefined
    ? undefined
    : { part: 'roots', reason: `${nameOf(root)} has ${weakness}` }
}

/** A root that bears the name of another one, where OpenSSL would take one for the other. */
function indistinct(roots: readonly X509Certificate[]): X509Certificate | undefined {
  return roots.find(
    (root) =>
      !hasKeyIdentifier(root.raw) &&
      roots.some((other) => other.subject === root.subject && !other.raw.equals(root.raw)),
  )
}

/** Each root once, in order. */
function bundleOf(roots: readonly X509Certificate[]): string {
  return joinPem([...new Set(roots.map(String))])
}

function earliest(dates: readonly Date[]): Date {
  return new Date(Math.min(...dates.map((date) => date.getTime())))
}

function defect(part: AuthorityPart, reason: string): Result<never, AuthorityDefect> {
  return err({ part, reason })
}
