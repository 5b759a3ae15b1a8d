// SPDX-License-Identifier: Apache-2.0
// Short texts of header blocks, remembered: most fields say what they said in the request before, and a text that is known already costs a
// comparison and no memory. Of long ones nothing is kept, what clients prove themselves by among them. Hot: bench/http2-exchange.ts.

/** Longer than the names of fields, and shorter than what authenticates anybody. */
const LONGEST = 24
/** A power of two. What falls in the same place takes it: a peer that brings ever other texts gains nothing by it. */
const PLACES = 512

const known = new Array<string>(PLACES).fill('')

/** The octets as a text, one a character. */
export function textOf(bytes: Buffer, start: number, end: number): string {
  const length = end - start
  if (length === 0) return ''
  if (length > LONGEST) return bytes.toString('latin1', start, end)
  let hash = length
  for (let at = start; at < end; at += 1) hash = (Math.imul(hash, 31) + (bytes[at] ?? 0)) | 0
  const place = (hash ^ (hash >>> 9)) & (PLACES - 1)
  const text = known[place] ?? ''
  if (text.length === length && isSame(text, bytes, start)) return text
  const made = bytes.toString('latin1', start, end)
  known[place] = made
  return made
}

function isSame(text: string, bytes: Buffer, start: number): boolean {
  for (let at = 0; at < text.length; at += 1)
    if (text.charCodeAt(at) !== bytes[start + at]) return false
  return true
}
