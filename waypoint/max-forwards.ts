// SPDX-License-Identifier: Apache-2.0
// Max-Forwards (RFC 9110 7.6.2): how many hops an OPTIONS or TRACE may still go. Whoever is the last one answers, so that a client can learn what
// stands between it and its app. Other methods have no such bound.

import { withFields } from '../mesh/http/header-edits.ts'
import { HEADER, headerName } from '../mesh/http/header-names.ts'
import type { RequestHead } from '../mesh/http/message.ts'
import type { AnswerOutcome, ForwardOutcome } from './exchange/types.ts'

const NAME = headerName('max-forwards')
const DROPPED = [NAME]
const COUNT = /^\d{1,9}$/
/** What a client would not want to see repeated (RFC 9110 9.3.8). */
const SECRET: ReadonlySet<string> = new Set(
  [HEADER.authorization, HEADER.proxyAuthorization, HEADER.cookie].map(({ text }) => text),
)

/** The hops that are left; undefined: there is no bound. Hot: once a request. */
export function hopsLeft(head: RequestHead): number | undefined {
  if (head.method !== 'OPTIONS' && head.method !== 'TRACE') return undefined
  const text = head.value(NAME)
  return text !== undefined && COUNT.test(text) ? Number(text) : undefined
}

/** The answer of the last hop: to TRACE what it was asked. */
export function answerAtLastHop(head: RequestHead): AnswerOutcome {
  const answer = { kind: 'answer', status: 200, flag: '-' } as const
  if (head.method === 'OPTIONS') return { ...answer, headers: [], body: '' }
  let body = `TRACE ${head.target} ${head.protocol}\r\nhost: ${head.authority}\r\n`
  head.each((name, value) => {
    if (name !== HEADER.host.text && !SECRET.has(name)) body += `${name}: ${value}\r\n`
  })
  return { ...answer, headers: [['content-type', 'message/http']], body: `${body}\r\n` }
}

/** As it goes on, with one hop less. */
export function oneHopLess(outcome: ForwardOutcome, hops: number): ForwardOutcome {
  const left = [{ name: NAME.text, value: `${hops - 1}` }]
  return { ...outcome, requestEdits: withFields(outcome.requestEdits, DROPPED, left) }
}
