// SPDX-License-Identifier: Apache-2.0
// Whether a head that was incomplete may have its end by now: a peer that sends single bytes must not make us read all of it again for
// each of them.

const LF = 0x0a
const CR = 0x0d
/** Of an empty line and the end of the line before it, what may have come before. */
const OVERLAP = 3

/** Looks for an empty line from a little before `scanned`, however it is written; the head begins at `start`. */
export function mayEndHead(bytes: Buffer, scanned: number, end: number, start: number): boolean {
  let at = bytes.indexOf(LF, Math.max(start, scanned - OVERLAP))
  while (at >= 0 && at + 1 < end) {
    const next = bytes[at + 1]
    if (next === LF || (next === CR && at + 2 < end)) return true
    at = bytes.indexOf(LF, at + 1)
  }
  return false
}
