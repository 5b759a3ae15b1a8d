// SPDX-License-Identifier: Apache-2.0
// The certificates that agents hold, in istioctl's columns: of each identity leaf, intermediates and roots.

import type { DumpedCertificate, DumpedIdentity } from '../dump/config-dump.ts'
import { byTexts, type Table } from './table.ts'

/** What stands for nothing in istioctl's tables. */
const NONE = 'NA'

/** The identities of all agents, by name; one that several nodes hold stands there once for each. */
export function identitiesOf(
  dumps: readonly { readonly certificates: readonly DumpedIdentity[] }[],
): readonly DumpedIdentity[] {
  return dumps
    .flatMap(({ certificates }) => certificates)
    .toSorted(byTexts(({ identity }) => [identity]))
}

/** The table of them. `now` decides what is valid. */
export function certificateTable(identities: readonly DumpedIdentity[], now: Date): Table {
  return {
    heading: [
      'CERTIFICATE NAME',
      'TYPE',
      'STATUS',
      'VALID CERT',
      'SERIAL NUMBER',
      'NOT AFTER',
      'NOT BEFORE',
    ],
    rows: identities.flatMap(({ identity, state, certChain, rootCerts = [] }) => {
      // Why it is not available is told by -o json.
      const status = state.startsWith('Unavailable') ? 'Unavailable' : state
      if (certChain.length === 0) return [[identity, NONE, status, 'false', NONE, NONE, NONE]]
      const row = (type: string, certificate: DumpedCertificate): readonly string[] => [
        identity,
        type,
        status,
        String(isValid(certificate, now)),
        hexadecimal(certificate.serialNumber),
        certificate.expirationTime ?? NONE,
        certificate.validFrom ?? NONE,
      ]
      return [
        ...certChain.map((each, at) => row(at === 0 ? 'Leaf' : 'Intermediate', each)),
        ...rootCerts.map((each) => row('Root', each)),
      ]
    }),
  }
}

function isValid({ validFrom, expirationTime }: DumpedCertificate, now: Date): boolean {
  if (validFrom === undefined || expirationTime === undefined) return false
  return now > new Date(validFrom) && now < new Date(expirationTime)
}

/** A dump has it in decimal, people compare it with openssl's. */
function hexadecimal(serialNumber: string | undefined): string {
  if (serialNumber === undefined || !/^\d+$/.test(serialNumber)) return serialNumber ?? NONE
  return BigInt(serialNumber).toString(16)
}
