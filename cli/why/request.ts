// SPDX-License-Identifier: Apache-2.0
// The request that `why` asks a waypoint about, as a person writes it.

import { FieldList, type Field } from '../../mesh/http/field-list.ts'
import type { RequestHead } from '../../mesh/http/message.ts'
import { err, ok, type Result } from '../../mesh/result.ts'

export interface RequestText {
  readonly method: string
  /** With the query. */
  readonly path: string
  /** Undefined: what was called. */
  readonly host: string | undefined
  readonly headers: readonly Field[]
}

/** What nobody has said more of. */
export const PLAIN_REQUEST: RequestText = {
  method: 'GET',
  path: '/',
  host: undefined,
  headers: [],
}

/** RFC 9110 5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
const HTTP_PORT = ':80'

/** Reads NAME=VALUE. */
export function parseHeader(text: string): Result<Field, string> {
  const at = text.indexOf('=')
  const name = at < 0 ? '' : text.slice(0, at)
  if (!TOKEN.test(name)) return err('it must be NAME=VALUE')
  const value = text.slice(at + 1).trim()
  // Heads show their bytes as Latin-1.
  return ok([name.toLowerCase(), Buffer.from(value, 'utf8').toString('latin1')])
}

/** Why it is none that could be sent; undefined: it is one. */
export function requestProblem({ method, path }: RequestText): string | undefined {
  if (!TOKEN.test(method)) return `the method "${method}" is no token`
  if (!/^\/[\x21-\xff]*$/.test(path))
    return `the path "${path}" does not begin with a slash, or has blanks`
  return undefined
}

/** The request as a waypoint would read it. `called`: the name that was called, with its port. */
export function requestHead(
  { method, path, host, headers }: RequestText,
  called: string,
): RequestHead {
  const authority =
    host ?? (called.endsWith(HTTP_PORT) ? called.slice(0, -HTTP_PORT.length) : called)
  const fields = new FieldList([['host', authority], ...headers])
  return {
    protocol: 'HTTP/1.1',
    method,
    target: path,
    authority,
    value: (name) => fields.value(name),
    joined: (name) => fields.joined(name),
    each: (visit) => fields.each(visit),
  }
}
