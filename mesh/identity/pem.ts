// SPDX-License-Identifier: Apache-2.0
// PEM bundles: several certificates in one text.

const CERTIFICATE_BLOCK = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** The certificates of a PEM text, one element each, in order; empty when there is none. */
export function splitCertificates(pem: string): readonly string[] {
  return pem.match(CERTIFICATE_BLOCK) ?? []
}

/** Whether both have the same certificates, at least one, in whatever order and with whatever lines around and between them. */
export function hasSameCertificates(one: string, other: string): boolean {
  const [left, right] = [one, other].map(
    (pem) => new Set(splitCertificates(pem).map((each) => each.replaceAll(/\s/g, ''))),
  )
  if (left === undefined || right === undefined || left.size === 0) return false
  return left.symmetricDifference(right).size === 0
}

/** Joins PEM texts so that each ends in exactly one newline. */
export function joinPem(parts: readonly string[]): string {
  return parts.map((part) => `${part.trim()}\n`).join('')
}
