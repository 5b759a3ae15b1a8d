// SPDX-License-Identifier: Apache-2.0
// What a request and an answer are to those who decide about them, whichever version of HTTP they came by. A head is a view of what
// its codec has just read: valid during the call it is handed to, unless it says otherwise.

import { HEADER, type HeaderName } from './header-names.ts'

export interface Fields {
  /** The value of the first field of that name, without blanks around it, bytes as Latin-1; undefined when there is none. */
  value(name: HeaderName): string | undefined
  /** All values of that name in their order, joined by separatorOf() the name; undefined when there is none. */
  joined(name: HeaderName): string | undefined
  /** Shows every field in its order, the name in lower case. */
  each(visit: (name: string, value: string) => void): void
}

/**
 * Between the values of several lines of one name: a comma without a blank (RFC 9110 5.2), as Envoy has it, so that what routes and
 * policies were written to match there matches here. Cookies are a list by semicolons (RFC 6265 5.4, RFC 9113 8.2.3).
 */
export function separatorOf(name: HeaderName): string {
  return name === HEADER.cookie ? '; ' : ','
}

export interface RequestHead extends Fields {
  readonly protocol: 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2'
  readonly method: string
  /** Path and query as they came, from `/` on; `*` for OPTIONS of the whole server. Visible ASCII and obs-text only. */
  readonly target: string
  /** Host or :authority as it came, host and perhaps port; empty where HTTP/1.0 named none. */
  readonly authority: string
}

export interface ResponseHead extends Fields {
  readonly status: number
}

/** How a message goes on: what a codec makes of its framing, so that another codec can frame it anew. */
export interface Framing {
  /** Bytes of the body; below 0: nobody knows until it ends. */
  readonly bodyLength: number
  /** Fields that go no further than this hop, beyond those that never do. */
  readonly nominated: readonly string[]
}

/** A request that is to go on. */
export interface RequestMessage extends RequestHead, Framing {
  /** It asks for a WebSocket: the one protocol that is let through as bytes (RFC 9110 7.8, RFC 6455). */
  readonly isWebSocket: boolean
  readonly takesTrailers: boolean
}

/** An answer that is to go on. */
export interface ResponseMessage extends ResponseHead, Framing {}
