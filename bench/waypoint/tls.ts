// SPDX-License-Identifier: Apache-2.0
// TLS as everybody in the waypoint's bench speaks it: 1.3 with the same suites.

import { TLS_CIPHERS } from '../../mesh/hbone/limits.ts'

export const TLS = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3', ciphers: TLS_CIPHERS } as const
