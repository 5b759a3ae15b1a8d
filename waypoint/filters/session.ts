// SPDX-License-Identifier: Apache-2.0
// Sessions of a rule (GEP-1619): by a cookie or a header a client comes back to the endpoint that it had. Whoever brings a token that is
// broken, another rule's or too old is balanced as anybody, and gets a new one.

import type { HeaderEdits } from '../../mesh/http/header-edits.ts'
import { headerName, type HeaderName } from '../../mesh/http/header-names.ts'
import type { Fields } from '../../mesh/http/message.ts'
import type { HttpSession } from '../../mesh/model/http-routes.ts'
import { openToken, sealToken, type SessionToken } from './session-token.ts'

/** The session that a request is of. */
export interface OngoingSession {
  /** What its client has been told; undefined: nothing that counts. */
  readonly token: SessionToken | undefined
  /** What to tell the client of an endpoint that answers, on top of what its answer is changed in; the same where it knows. */
  editsFor(
    backend: { readonly service: string; readonly port: number },
    endpoint: string,
    edits: HeaderEdits | undefined,
  ): HeaderEdits | undefined
}

const COOKIE = headerName('cookie')
const SET_COOKIE = 'set-cookie'
/** Clocks of the waypoint's pods may differ by as much. */
const CLOCK_SKEW_S = 60
/** A session is renewed once this part of its idle time has passed, and not with every answer. */
const RENEWED_AFTER = 1 / 10
const MS = 1000

export class SessionFilter {
  readonly #session: HttpSession
  readonly #key: Buffer
  readonly #header: HeaderName
  readonly #nowMs: () => number

  constructor(session: HttpSession, nowMs: () => number = Date.now) {
    this.#session = session
    this.#key = Buffer.from(session.key, 'base64url')
    this.#header = session.kind === 'cookie' ? COOKIE : headerName(session.name)
    this.#nowMs = nowMs
  }

  /** The session of a request. Hot: once a request of such a rule. */
  of(fields: Fields): OngoingSession {
    const now = Math.floor(this.#nowMs() / MS)
    const token = this.#tokenOf(fields, now)
    return {
      token,
      editsFor: ({ service, port }, endpoint, edits) => {
        const isSame =
          token?.service === service && token.port === port && token.endpoint === endpoint
        if (isSame && !this.#isToBeRenewed(token, now)) return edits
        // Another endpoint than the one it had knows nothing of it: a session begins there.
        const begunAt = isSame ? token.begunAt : now
        const next = { service, port, endpoint, begunAt, usedAt: now }
        return this.#told(edits, sealToken(this.#key, next), begunAt - now)
      },
    }
  }

  #tokenOf(fields: Fields, now: number): SessionToken | undefined {
    const { kind, name, absoluteMs, idleMs } = this.#session
    const text = kind === 'cookie' ? cookieOf(fields, name) : fields.value(this.#header)
    const token = text === undefined ? undefined : openToken(this.#key, text)
    if (token === undefined) return undefined
    const { begunAt, usedAt } = token
    const isOver =
      begunAt > now + CLOCK_SKEW_S ||
      (absoluteMs > 0 && now - begunAt >= absoluteMs / MS) ||
      (idleMs > 0 && now - usedAt >= idleMs / MS)
    return isOver ? undefined : token
  }

  #isToBeRenewed({ usedAt }: SessionToken, now: number): boolean {
    const { idleMs } = this.#session
    return idleMs > 0 && now - usedAt >= (idleMs / MS) * RENEWED_AFTER
  }

  #told(edits: HeaderEdits | undefined, sealed: string, sinceBegun: number): HeaderEdits {
    const { kind, name, absoluteMs, isPermanent } = this.#session
    if (kind === 'header') return withField(edits, name, sealed)
    const lasts = isPermanent ? `; Max-Age=${Math.ceil(absoluteMs / MS) + sinceBegun}` : ''
    return withField(edits, SET_COOKIE, `${name}=${sealed}; Path=/; HttpOnly${lasts}`)
  }
}

/** RFC 6265 4.2.1; HTTP/2 may send each pair in a field of its own. */
function cookieOf(fields: Fields, name: string): string | undefined {
  if (fields.value(COOKIE) === undefined) return undefined
  let found: string | undefined
  fields.each((field, value) => {
    if (field !== COOKIE.text || found !== undefined) return
    for (const pair of value.split(';')) {
      const equals = pair.indexOf('=')
      if (equals > 0 && pair.slice(0, equals).trim() === name) {
        found = pair.slice(equals + 1).trim()
        return
      }
    }
  })
  return found
}

/** The edits and one more field. */
function withField(edits: HeaderEdits | undefined, name: string, value: string): HeaderEdits {
  const { dropped = [], added = [], lines } = edits ?? {}
  const line = Buffer.from(`${name}: ${value}\r\n`, 'latin1')
  return {
    dropped,
    added: [...added, { name, value }],
    lines: lines === undefined ? line : Buffer.concat([lines, line]),
  }
}
