// SPDX-License-Identifier: Apache-2.0
// Reads the head of an answer that came by HTTP/2 (RFC 9113 8.3.2). Hot: once a request.

import { FieldList, type Field } from '../field-list.ts'
import type { ResponseMessage } from '../message.ts'
import { countPseudo, fieldsProblem, statedLength } from './check-fields.ts'

const NOBODY: readonly string[] = []

/** The answer that was read last: valid until the next parse. */
export class Http2ResponseHead extends FieldList implements ResponseMessage {
  readonly nominated = NOBODY
  status = 0
  bodyLength = 0
  /** Nothing follows it, not even trailers. */
  isEnd = false

  /** Reads a head; `isEnd`: no body follows. What is wrong with it, or undefined. */
  parse(all: readonly Field[], isToHead: boolean, isEnd: boolean): string | undefined {
    const count = countPseudo(all)
    const [name, status] = all[0] ?? NO_FIELD
    if (count !== 1 || name !== ':status')
      return 'the answer has not :status alone (RFC 9113 8.3.2)'
    if (!/^[1-9]\d\d$/.test(status)) return 'the status is no number of three digits'
    this.status = Number(status)
    // RFC 9113 8.6.
    if (this.status === 101) return 'the server switches protocols, which HTTP/2 cannot'
    const problem = fieldsProblem(all, 1)
    if (problem !== undefined) return problem
    this.fields = all.slice(1)
    this.isEnd = isEnd
    const stated = statedLength(all, 1)
    if (typeof stated === 'object') return stated.problem
    const isBodiless = isToHead || this.status < 200 || this.status === 204 || this.status === 304
    if (isEnd && !isBodiless && (stated ?? 0) > 0) return 'the content is shorter than its length'
    this.bodyLength = isEnd || isBodiless ? 0 : (stated ?? -1)
    return undefined
  }

  /** Forgets what it read. */
  forget(): void {
    this.fields = []
  }
}

const NO_FIELD: Field = ['', '']
