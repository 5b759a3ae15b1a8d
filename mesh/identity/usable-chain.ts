// SPDX-License-Identifier: Apache-2.0
// Whether a leaf is of use: what a peer will ask of it in a handshake, asked before it takes the place of one that works. Whoever signed it may be
// mistaken, or not ours. Pure.

import { X509Certificate } from 'node:crypto'
import { errorMessage } from '../errors.ts'
import { type Result, err, ok } from '../result.ts'
import { isInDate, pathToRoot } from './chain.ts'
import { splitCertificates } from './pem.ts'
import {
  mayIssueBelow,
  maySignCertificates,
  maySignDigitally,
  OID_CLIENT_AUTH,
  OID_SERVER_AUTH,
} from './x509.ts'

/** Why a leaf is of no use; `noPath` where nobody vouches for it. The message is a sentence about the leaf. */
export interface UnusableChain {
  readonly kind: 'unreadable' | 'unfit' | 'noPath'
  readonly message: string
}

/** Certificates as they were read, the leaf first and the others in any order. */
export interface ReadChain {
  readonly leaf: X509Certificate
  readonly others: readonly X509Certificate[]
}

/** Reads a chain, the leaf first. */
export function readChain(chainPem: string): Result<ReadChain, UnusableChain> {
  const read = readAll(chainPem)
  if (!read.ok) return unusable('unreadable', `is not readable: ${read.error}`)
  const [leaf, ...others] = read.value
  return leaf === undefined ? unusable('unreadable', 'is not there') : ok({ leaf, others })
}

/** Judges a chain by these roots; gives the leaf and what lies between it and its root, in this order. */
export function usablePath(
  { leaf, others }: ReadChain,
  rootsPem: string,
  now: Date,
): Result<readonly X509Certificate[], UnusableChain> {
  const roots = readAll(rootsPem)
  if (!roots.ok) return unusable('unreadable', `has roots that are not readable: ${roots.error}`)
  const unfit = defectOfLeaf(leaf)
  if (unfit !== undefined) return unusable('unfit', unfit)
  const isSound = (each: X509Certificate): boolean => isInDate(each, now)
  const path = pathToRoot(leaf, others, roots.value, isSound)
  if (path === undefined)
    return unusable('noPath', `leads to none of the roots (${roots.value.map(nameOf).join('; ')})`)
  if (path.length === 1) return unusable('unfit', 'is a root itself')
  for (const [below, authority] of path.slice(1).entries()) {
    const isRoot = below === path.length - 2
    const broken =
      (isRoot ? undefined : defectOfIntermediate(authority, below)) ?? defectOfDates(authority, now)
    if (broken !== undefined) return unusable('unfit', broken)
  }
  return ok(path.slice(0, -1))
}

function readAll(pem: string): Result<readonly X509Certificate[], string> {
  try {
    const certificates = splitCertificates(pem).map((each) => new X509Certificate(each))
    // A damaged key or extension is found by asking for it, and not before.
    for (const { publicKey, raw } of certificates) {
      publicKey.export({ type: 'spki', format: 'der' })
      maySignCertificates(raw)
    }
    return ok(certificates)
  } catch (thrown) {
    return err(errorMessage(thrown))
  }
}

/** A workload is client and server by the same certificate, and proves itself by a signature (TLS 1.3). */
function defectOfLeaf(leaf: X509Certificate): string | undefined {
  if (!maySignDigitally(leaf.raw)) return 'may not sign by its key usage'
  // Typed as an array, but undefined where the certificate says nothing of it.
  const purposes = leaf.keyUsage as readonly string[] | undefined
  if (purposes === undefined) return undefined
  if (!purposes.includes(OID_SERVER_AUTH)) return 'may not be a server by its extended key usage'
  if (!purposes.includes(OID_CLIENT_AUTH)) return 'may not be a client by its extended key usage'
  return undefined
}

/** A root is what it is by being trusted: one of X.509's first version says nothing of itself. */
function defectOfIntermediate(authority: X509Certificate, below: number): string | undefined {
  const name = nameOf(authority)
  if (!authority.ca || !maySignCertificates(authority.raw))
    return `is signed by ${name}, which is no authority`
  return mayIssueBelow(authority.raw, below)
    ? undefined
    : `is signed below ${name}, which may not have ${below} authorities below it (path length)`
}

function defectOfDates(authority: X509Certificate, now: Date): string | undefined {
  const name = nameOf(authority)
  if (authority.validFromDate > now)
    return `is signed by ${name}, which is not valid before ${authority.validFrom} (check the clocks)`
  return authority.validToDate <= now
    ? `is signed by ${name}, which expired at ${authority.validTo}`
    : undefined
}

function unusable(kind: UnusableChain['kind'], message: string): Result<never, UnusableChain> {
  return err({ kind, message })
}

/** A certificate in a message: its subject in one line, or else its serial number. */
export function nameOf(certificate: X509Certificate): string {
  // Typed as a string, but undefined for an empty subject.
  const subject = (certificate.subject as string | undefined)?.replaceAll('\n', ', ')
  return subject === undefined ? `certificate ${certificate.serialNumber}` : `"${subject}"`
}
