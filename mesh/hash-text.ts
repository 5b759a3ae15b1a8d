// SPDX-License-Identifier: Apache-2.0
// A hash for spreading and telling apart, good enough in all its bits; not for anything that somebody gains by colliding.

/** 32 bits of a text, and of a hash to begin with: FNV-1a over its UTF-16 units, then MurmurHash3's last steps. */
export function hashText(text: string, seed = 0): number {
  let value = 0x811c9dc5 ^ seed
  for (let at = 0; at < text.length; at += 1)
    value = Math.imul(value ^ text.charCodeAt(at), 0x01000193)
  // FNV alone leaves the last characters in the low bits.
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35)
  return (value ^ (value >>> 16)) >>> 0
}
