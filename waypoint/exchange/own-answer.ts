// SPDX-License-Identifier: Apache-2.0
// Answers that no app gives: refused, redirected, or the app cannot be had.

import { STATUS_CODES } from 'node:http'
import type { Field } from '../../mesh/http/field-list.ts'
import { isFieldValue, isToken } from '../../mesh/http/octets.ts'
import type { AnswerOutcome } from './types.ts'

/** Fields that the framing of the answer brings. */
const FRAMING: ReadonlySet<string> = new Set([
  'content-length',
  'transfer-encoding',
  'connection',
  'date',
])

let dateSecond = 0
let dateText = ''

/** RFC 9110 6.6.1; made once a second. */
function date(): string {
  const second = Math.floor(Date.now() / 1000)
  if (second !== dateSecond) {
    dateSecond = second
    dateText = new Date(second * 1000).toUTCString()
  }
  return dateText
}

/** The fields of an answer with a body of so many bytes, those that say so included. */
export function ownFields(
  { status, headers }: Pick<AnswerOutcome, 'status' | 'headers'>,
  length: number,
): readonly Field[] {
  const fields: Field[] = [['date', date()]]
  let hasType = false
  for (const [name, value] of headers) {
    const lower = name.toLowerCase()
    // What a header cannot hold would be the start of something else.
    if (FRAMING.has(lower) || !isToken(name) || !isFieldValue(value)) continue
    hasType ||= lower === 'content-type'
    fields.push([lower, value])
  }
  if (length > 0 && !hasType) fields.push(['content-type', 'text/plain; charset=utf-8'])
  if (status !== 204 && status !== 304) fields.push(['content-length', `${length}`])
  return fields
}

/** Writes the whole answer as HTTP/1.1. `isToHead`: without its body; `isLast`: the connection closes after it. */
export function answerBytes(answer: AnswerOutcome, isToHead: boolean, isLast: boolean): Buffer {
  const { status, body } = answer
  const bytes = Buffer.from(body, 'utf8')
  let text = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`
  for (const [name, value] of ownFields(answer, bytes.length)) text += `${name}: ${value}\r\n`
  if (isLast) text += 'connection: close\r\n'
  const head = Buffer.from(`${text}\r\n`, 'latin1')
  const isBare = isToHead || status === 204 || status === 304
  return isBare ? head : Buffer.concat([head, bytes])
}
