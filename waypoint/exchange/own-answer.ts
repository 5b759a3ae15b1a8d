// SPDX-License-Identifier: Apache-2.0
// Answers that no app gives: refused, redirected, or the app cannot be had.

import { http } from '../../mesh/node-http.ts'
import { dateText } from '../../mesh/http/date.ts'
import type { Field } from '../../mesh/http/field-list.ts'
import type { HttpProblem } from '../../mesh/http/http1/problem.ts'
import { isFieldValue, isToken } from '../../mesh/http/octets.ts'
import { grpcStatusFields } from './grpc.ts'
import type { AnswerOutcome } from './types.ts'

/** Fields that the framing of the answer brings. */
const FRAMING: ReadonlySet<string> = new Set([
  'content-length',
  'transfer-encoding',
  'connection',
  'date',
])

/** RFC 9110 15.5.6: who is told 405 is told what is allowed, which here is all that is no tunnel. */
const ALLOWED = ['allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE'] as const

/** What whoever sent what is no request hears. */
export function problemAnswer({ status, text }: HttpProblem): AnswerOutcome {
  const headers = status === 405 ? [ALLOWED] : []
  return { kind: 'answer', status, headers, body: text, flag: 'DPE' }
}

/** The fields of an answer with a body of so many bytes, those that say so included. */
export function ownFields(
  { status, headers }: Pick<AnswerOutcome, 'status' | 'headers'>,
  length: number,
): readonly Field[] {
  const fields: Field[] = [['date', dateText()], ...addedFields(headers)]
  const hasType = fields.some(([name]) => name === 'content-type')
  if (length > 0 && !hasType) fields.push(['content-type', 'text/plain; charset=utf-8'])
  if (status !== 204 && status !== 304) fields.push(['content-length', `${length}`])
  return fields
}

/** The same of an answer to a call of gRPC: no body, and what became of it in the head. */
export function ownGrpcFields(
  { headers }: Pick<AnswerOutcome, 'headers'>,
  grpcStatus: number,
  message: string,
): readonly Field[] {
  return [
    ['date', dateText()],
    ...addedFields(headers).filter(([name]) => name !== 'content-type'),
    ['content-type', 'application/grpc'],
    ...grpcStatusFields(grpcStatus, message),
  ]
}

function addedFields(headers: AnswerOutcome['headers']): readonly Field[] {
  const fields: Field[] = []
  for (const [name, value] of headers) {
    const lower = name.toLowerCase()
    // What a header cannot hold would be the start of something else.
    if (!FRAMING.has(lower) && isToken(name) && isFieldValue(value)) fields.push([lower, value])
  }
  return fields
}

/** Writes the whole answer as HTTP/1.1. `isToHead`: without its body; `isLast`: the connection closes after it. */
export function answerBytes(answer: AnswerOutcome, isToHead: boolean, isLast: boolean): Buffer {
  const { status, body } = answer
  const bytes = Buffer.from(body, 'utf8')
  let text = `HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? ''}\r\n`
  for (const [name, value] of ownFields(answer, bytes.length)) text += `${name}: ${value}\r\n`
  if (isLast) text += 'connection: close\r\n'
  const head = Buffer.from(`${text}\r\n`, 'latin1')
  const isBare = isToHead || status === 204 || status === 304
  return isBare ? head : Buffer.concat([head, bytes])
}
