// SPDX-License-Identifier: Apache-2.0
// RequestMirror: whether a copy of a request goes to another backend as well.

import type { HttpFilter } from '../../mesh/model/http-routes.ts'

export type MirrorFilter = Extract<HttpFilter, { readonly kind: 'mirror' }>

/** Decides for one request. @param random From 0 up to, not including, 1. */
export function isMirrored(
  { numerator, denominator }: MirrorFilter,
  random: () => number,
): boolean {
  if (numerator >= denominator) return numerator > 0
  return random() * denominator < numerator
}
