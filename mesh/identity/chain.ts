// SPDX-License-Identifier: Apache-2.0
// Whether certificates lead to a root. TLS asks it in each handshake by itself; this is for what TLS does not look at:
// an authority before it signs, and connections that stand when the roots change.

import type { X509Certificate } from 'node:crypto'

/** Longer chains do not occur; also ends loops. */
const MOST_CERTIFICATES = 10

/** Whether `issuer`'s key signed the certificate, and its name is the one it gives. */
function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
}

/** Whether it names itself as its issuer and signed itself. */
export function isSelfSigned(certificate: X509Certificate): boolean {
  return isIssuedBy(certificate, certificate)
}

/**
 * The certificates from `first` up to a root, that root last; undefined when they lead to none of the roots. What lies
 * between is looked for in `others`, in any order. Dates are not looked at.
 *
 * @param isSound whether a certificate above the first is good to go by. One key may have several of a name, as an authority that was prolonged has, or one
 * that is signed by two: a way through sound ones is taken where there is any, as OpenSSL does.
 */
export function pathToRoot(
  first: X509Certificate,
  others: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  isSound: (certificate: X509Certificate) => boolean = () => true,
): readonly X509Certificate[] | undefined {
  const issuers = [...roots, ...others]
  return (
    climb([first], issuers.filter(isSound), roots, new Set()) ??
    climb([first], issuers, roots, new Set())
  )
}

/** `inVain`: issuers that lead to no root. */
function climb(
  path: readonly X509Certificate[],
  issuers: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  inVain: Set<X509Certificate>,
): readonly X509Certificate[] | undefined {
  const at = path.at(-1)
  if (at === undefined || roots.some((each) => each.raw.equals(at.raw))) return path
  if (path.length > MOST_CERTIFICATES) return undefined
  for (const issuer of issuers) {
    if (inVain.has(issuer) || path.some((each) => each.raw.equals(issuer.raw))) continue
    if (!isIssuedBy(at, issuer)) continue
    const found = climb([...path, issuer], issuers, roots, inVain)
    if (found !== undefined) return found
    inVain.add(issuer)
  }
  return undefined
}

/**
 * Whether a peer's certificate, as a TLS connection has it, still leads to one of the roots, and every certificate on the
 * way is still valid.
 */
export function leadsTo(
  peer: X509Certificate,
  roots: readonly X509Certificate[],
  now: Date,
): boolean {
  const sent: X509Certificate[] = []
  let at = peer.issuerCertificate
  while (at !== undefined && sent.length < MOST_CERTIFICATES && !sent.includes(at)) {
    sent.push(at)
    at = at.issuerCertificate
  }
  const path = pathToRoot(peer, sent, roots, (each) => isInDate(each, now))
  return path !== undefined && path.every((each) => isInDate(each, now))
}

/** Whether now lies between its dates. */
export function isInDate(certificate: X509Certificate, now: Date): boolean {
  return certificate.validFromDate <= now && certificate.validToDate > now
}
