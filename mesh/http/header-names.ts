// SPDX-License-Identifier: Apache-2.0
// Names of header fields, known by number: those that HTTP itself is made of, and those that some route, policy or log line asks for.
// A head that is read finds the number of each of its fields once; to look a field up then makes no string and compares none.

/** A name in lower case, for the time of configuration. Made by headerName() only, one for each name. */
export interface HeaderName {
  readonly text: string
  /** 0: too many names are known already, so it has none and is searched for. */
  readonly id: number
}

/** Ids up to this one are fixed, so that what HTTP itself cares about is found by comparing numbers. */
export const LAST_FIXED_ID = 31
/** Each name costs two bytes in every head that is read into; names come from configuration alone, and few are ever used. */
export const MOST_NAMES = 1024
/** A power of two, sparse enough that nearly every bucket holds one name. */
const SLOTS = 4096

interface Entry extends HeaderName {
  readonly bytes: Uint8Array
}

const byText = new Map<string, Entry>()
const buckets: (Entry[] | undefined)[] = new Array<Entry[] | undefined>(SLOTS).fill(undefined)
const byId: Entry[] = [{ text: '', id: 0, bytes: new Uint8Array(0) }]

/** Octets with letters in lower case. */
const LOWER = Uint8Array.from({ length: 256 }, (_, octet) =>
  octet >= 0x41 && octet <= 0x5a ? octet + 0x20 : octet,
)

/** The name for a text in any case, which is to be a token. For the time of configuration: names are never forgotten. */
export function headerName(text: string): HeaderName {
  const lower = text.toLowerCase()
  const known = byText.get(lower)
  if (known !== undefined) return known
  const bytes = Uint8Array.from(Buffer.from(lower, 'latin1'))
  if (byId.length >= MOST_NAMES) return { text: lower, id: 0 }
  const entry: Entry = { text: lower, id: byId.length, bytes }
  byId.push(entry)
  byText.set(lower, entry)
  const slot = slotOf(bytes.length, bytes[0] ?? 0, bytes.at(-1) ?? 0)
  buckets[slot] = [...(buckets[slot] ?? []), entry]
  return entry
}

/** The first id that no name has yet. */
export function nextNameId(): number {
  return byId.length
}

/** The id of the name that stands there in any case; 0 when nobody asks for it. Hot: once per field. */
export function idOfName(bytes: Uint8Array, start: number, end: number): number {
  const length = end - start
  const bucket =
    buckets[slotOf(length, LOWER[bytes[start] ?? 0] ?? 0, LOWER[bytes[end - 1] ?? 0] ?? 0)]
  if (bucket === undefined) return 0
  for (let at = 0; at < bucket.length; at += 1) {
    const entry = bucket[at]
    if (entry !== undefined && isSameName(bytes, start, entry.bytes, length)) return entry.id
  }
  return 0
}

function isSameName(bytes: Uint8Array, start: number, name: Uint8Array, length: number): boolean {
  if (name.length !== length) return false
  for (let at = 0; at < length; at += 1)
    if (LOWER[bytes[start + at] ?? 0] !== name[at]) return false
  return true
}

function slotOf(length: number, first: number, last: number): number {
  return ((length * 31 + first) * 31 + last) & (SLOTS - 1)
}

/** Those that HTTP itself is made of. Their ids are below LAST_FIXED_ID, for these are the first to be made. */
export const HEADER = {
  host: headerName('host'),
  contentLength: headerName('content-length'),
  transferEncoding: headerName('transfer-encoding'),
  connection: headerName('connection'),
  keepAlive: headerName('keep-alive'),
  proxyConnection: headerName('proxy-connection'),
  forwardedClientCert: headerName('x-forwarded-client-cert'),
  te: headerName('te'),
  trailer: headerName('trailer'),
  upgrade: headerName('upgrade'),
  expect: headerName('expect'),
  proxyAuthenticate: headerName('proxy-authenticate'),
  proxyAuthorization: headerName('proxy-authorization'),
  authorization: headerName('authorization'),
  cookie: headerName('cookie'),
  setCookie: headerName('set-cookie'),
  date: headerName('date'),
} as const satisfies Record<string, HeaderName>
