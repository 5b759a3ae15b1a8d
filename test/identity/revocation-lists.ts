// SPDX-License-Identifier: Apache-2.0
// Lists of revoked certificates, as an authority signs them.

import '../../mesh/identity/reflect-metadata.ts'
import { Extension, X509CrlGenerator } from '@peculiar/x509'
import type { TestRoot } from '../hbone/certs.ts'

/** A list of the root's, in DER. */
export async function revocationList(
  root: TestRoot,
  serials: readonly string[],
  { nextUpdate, extensions = [] }: { nextUpdate?: Date; extensions?: readonly Extension[] } = {},
): Promise<Buffer> {
  const list = await X509CrlGenerator.create({
    issuer: root.name,
    thisUpdate: new Date(Date.now() - 60_000),
    ...(nextUpdate && { nextUpdate }),
    entries: serials.map((serialNumber) => ({ serialNumber, revocationDate: new Date() })),
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    signingKey: root.keys.privateKey,
    extensions: [...extensions],
  })
  return Buffer.from(list.rawData)
}

/** An extension of a list. */
export function extension(oid: string, isCritical: boolean, value: Uint8Array): Extension {
  return new Extension(oid, isCritical, Uint8Array.from(value))
}

/** The same in PEM. */
export function pemOfList(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN X509 CRL-----\n${lines.join('\n')}\n-----END X509 CRL-----\n`
}
