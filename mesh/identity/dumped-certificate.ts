// SPDX-License-Identifier: Apache-2.0
// The certificates of an identity in the shape of Istio's ztunnel: each of the chain and each root, its PEM in base64, its serial
// number in decimal, its times by RFC 3339. Never a key: there is none in what it is made from.

import { X509Certificate } from 'node:crypto'
import type { CertificateStatus } from './certificate-manager.ts'
import { splitCertificates } from './pem.ts'

interface DumpedCertificate {
  readonly pem: string
  readonly serialNumber: string
  readonly validFrom: string
  readonly expirationTime: string
}

const STATES = {
  initializing: 'Initializing',
  available: 'Available',
  unavailable: 'Unavailable',
} as const

/** The certificates of one identity, leaf first; roots apart. */
export function dumpCertificate(status: CertificateStatus): Record<string, unknown> {
  const { identity, state, chainPem, rootsPem, lastFailure } = status
  return {
    identity,
    state:
      state === 'unavailable' && lastFailure !== undefined
        ? `${STATES.unavailable}: ${lastFailure.message}`
        : STATES[state],
    certChain: dumpChain(chainPem),
    rootCerts: dumpChain(rootsPem),
    ...(lastFailure === undefined ? {} : { lastFailure: lastFailure.message }),
  }
}

function dumpChain(pem: string | undefined): readonly DumpedCertificate[] {
  return splitCertificates(pem ?? '').map((each) => {
    const { serialNumber, validFromDate, validToDate } = new X509Certificate(each)
    return {
      pem: Buffer.from(`${each}\n`).toString('base64'),
      serialNumber: BigInt(`0x${serialNumber}`).toString(),
      validFrom: timeOf(validFromDate),
      expirationTime: timeOf(validToDate),
    }
  })
}

/** Certificates know seconds only. */
function timeOf(date: Date): string {
  return date.toISOString().replace('.000Z', 'Z')
}
