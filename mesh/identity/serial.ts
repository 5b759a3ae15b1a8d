// SPDX-License-Identifier: Apache-2.0
// Serial numbers of certificates.

import { randomBytes } from 'node:crypto'

/** Bytes of randomness in a serial number: CA/Browser Forum asks for at least 8; 20 is the RFC 5280 limit. */
const SERIAL_BYTES = 16

/** A random positive serial number as hex: the first byte is kept in 1..127, so that DER adds no sign byte. */
export function newSerialNumber(): string {
  const serial = randomBytes(SERIAL_BYTES)
  serial.writeUInt8((serial.readUInt8(0) & 0x7f) | 0x01, 0)
  return serial.toString('hex')
}
