// SPDX-License-Identifier: Apache-2.0
// Reads the head of a request that came by HTTP/2 (RFC 9113 8.3.1). Hot: once a request.

import { FieldList, type Field } from '../field-list.ts'
import { HEADER, type HeaderName } from '../header-names.ts'
import { isAuthority } from '../http1/authority.ts'
import { type HttpProblem, PROBLEM } from '../http1/problem.ts'
import type { RequestMessage } from '../message.ts'
import { isTarget, isToken } from '../octets.ts'
import { countPseudo, fieldsProblem, statedLength } from './check-fields.ts'

/** Longer than any registered one, and what browsers and servers take: as with HTTP/1.1. */
const LONGEST_METHOD = 32
const LONGEST_TARGET = 16 * 1024
const NOBODY: readonly string[] = []

/** `malformed`: its stream is to be reset; `refused`: it is to be answered. */
export type RequestProblem =
  | { readonly kind: 'malformed'; readonly text: string }
  | { readonly kind: 'refused'; readonly problem: HttpProblem }

/** The request that was read last: valid until the next parse. */
export class Http2RequestHead extends FieldList implements RequestMessage {
  readonly protocol = 'HTTP/2'
  readonly nominated = NOBODY
  readonly isWebSocket = false
  method = ''
  target = ''
  authority = ''
  bodyLength = 0
  takesTrailers = false

  /** Reads a head; `isEnd`: no body follows. What is wrong with it, or undefined. */
  parse(all: readonly Field[], isEnd: boolean): RequestProblem | undefined {
    const count = countPseudo(all)
    const problem = this.#readPseudo(all, count) ?? fieldsProblem(all, count)
    if (problem !== undefined) return malformed(problem)
    this.fields = all.slice(count)
    if (this.method === 'CONNECT') return { kind: 'refused', problem: PROBLEM.connect }
    return this.#understandTarget() ?? this.#understandBody(isEnd)
  }

  /** HTTP/2 says the host by :authority (RFC 9113 8.3.1); to whoever asks for Host that is what it says. */
  override value(name: HeaderName): string | undefined {
    return name === HEADER.host ? this.#host() : super.value(name)
  }

  override joined(name: HeaderName): string | undefined {
    return name === HEADER.host ? this.#host() : super.joined(name)
  }

  /** Takes what there is of a head that is too large: who asked for what, perhaps. It is not to go on. */
  take(part: readonly Field[]): void {
    const count = countPseudo(part)
    this.#readPseudo(part, count)
    this.fields = part.slice(count)
  }

  /** Forgets what it read. */
  forget(): void {
    this.fields = []
    this.method = this.target = this.authority = ''
  }

  #readPseudo(all: readonly Field[], count: number): string | undefined {
    let method: string | undefined
    let scheme: string | undefined
    let path: string | undefined
    let authority: string | undefined
    for (let at = 0; at < count; at += 1) {
      const [name, value] = all[at] ?? NO_FIELD
      let isRepeated = false
      switch (name) {
        case ':method':
          isRepeated = method !== undefined
          method = value
          break
        case ':scheme':
          isRepeated = scheme !== undefined
          scheme = value
          break
        case ':path':
          isRepeated = path !== undefined
          path = value
          break
        case ':authority':
          isRepeated = authority !== undefined
          authority = value
          break
        default:
          return 'there is an unknown pseudo-field (RFC 9113 8.3)'
      }
      if (isRepeated) return `${name} is there twice`
    }
    this.method = method ?? ''
    this.target = path ?? ''
    this.authority = authority ?? ''
    if (method === undefined || method.length > LONGEST_METHOD || !isToken(method)) {
      // It is told of, and may be as long as a list of headers.
      this.method = ''
      return ':method is missing or no method'
    }
    if (method === 'CONNECT') {
      // RFC 9113 8.5; 8.3: an extended one (RFC 8441) was not offered.
      const isPlain = scheme === undefined && path === undefined && authority !== undefined
      return isPlain ? undefined : 'CONNECT has more, or less, than :authority'
    }
    if (scheme === undefined || scheme === '') return ':scheme is missing'
    return path === undefined || path === '' ? ':path is missing or empty' : undefined
  }

  #understandTarget(): RequestProblem | undefined {
    const { target } = this
    if (target.length > LONGEST_TARGET) return { kind: 'refused', problem: PROBLEM.longTarget }
    if (!isTarget(target)) return malformed(':path has octets that no path may have')
    if (target.charCodeAt(0) !== 0x2f && !(target === '*' && this.method === 'OPTIONS'))
      return malformed(':path does not begin with a slash')
    const host = super.value(HEADER.host)
    if (this.authority === '') this.authority = host ?? ''
    else if (host !== undefined && host.toLowerCase() !== this.authority.toLowerCase())
      return malformed('host and :authority differ (RFC 9113 8.3.1)')
    return isAuthority(this.authority) ? undefined : malformed(':authority is missing or no host')
  }

  #host(): string | undefined {
    return this.authority === '' ? undefined : this.authority
  }

  #understandBody(isEnd: boolean): RequestProblem | undefined {
    const stated = statedLength(this.fields, 0)
    if (typeof stated === 'object') return malformed(stated.problem)
    if (isEnd && (stated ?? 0) > 0) return malformed('the content is shorter than its length')
    this.bodyLength = isEnd ? 0 : (stated ?? -1)
    this.takesTrailers = this.value(HEADER.te) !== undefined
    return undefined
  }
}

const NO_FIELD: Field = ['', '']

function malformed(text: string): RequestProblem {
  return { kind: 'malformed', text }
}
