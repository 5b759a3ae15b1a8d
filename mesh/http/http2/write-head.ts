// SPDX-License-Identifier: Apache-2.0
// The fields of messages as they go on by HTTP/2, whichever protocol they came by. Hot: once a request and once an answer.

import { dateText } from '../date.ts'
import type { Field } from '../field-list.ts'
import type { HeaderEdits } from '../header-edits.ts'
import { HEADER } from '../header-names.ts'
import type { Fields, RequestMessage, ResponseMessage } from '../message.ts'
import { addPassing, eachPassingTrailer, lacksDate } from '../passing-fields.ts'

/** A request, to such a target and host. */
export function requestFields(
  head: RequestMessage,
  target: string,
  authority: string,
  edits: HeaderEdits | undefined,
): readonly Field[] {
  const fields: Field[] = [
    [':method', head.method],
    [':scheme', 'http'],
    [':path', target],
    [':authority', authority],
  ]
  addPassing(fields, head, edits)
  if (head.takesTrailers) fields.push(['te', 'trailers'])
  return fields
}

/** An answer, interim ones included. */
export function responseFields(
  head: ResponseMessage,
  edits: HeaderEdits | undefined,
): readonly Field[] {
  const fields: Field[] = [[':status', `${head.status}`]]
  addPassing(fields, head, edits)
  if (head.value(HEADER.date) === undefined && lacksDate(head, edits))
    fields.push([HEADER.date.text, dateText()])
  // RFC 9110 8.6: these have no Content-Length.
  const isBare = head.status < 200 || head.status === 204
  return isBare ? fields.filter(([name]) => name !== 'content-length') : fields
}

/** Trailers; undefined when nothing of them may go on. */
export function trailerFields(trailers: Fields | undefined): readonly Field[] | undefined {
  if (trailers === undefined) return undefined
  const fields: Field[] = []
  eachPassingTrailer(trailers, (name, value) => void fields.push([name, value]))
  return fields.length === 0 ? undefined : fields
}
