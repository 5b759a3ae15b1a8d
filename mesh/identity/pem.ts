// SPDX-License-Identifier: Apache-2.0
// PEM bundles: several certificates in one text.

const CERTIFICATE_BLOCK = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** The certificates of a PEM text, one element each, in order; empty when there is none. */
export function splitCertificates(pem: string): readonly string[] {
  return pem.match(CERTIFICATE_BLOCK) ?? []
}

/** Joins PEM texts so that each ends in exactly one newline. */
export function joinPem(parts: readonly string[]): string {
  return parts.map((part) => `${part.trim()}\n`).join('')
}
