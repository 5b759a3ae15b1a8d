// SPDX-License-Identifier: Apache-2.0
// The headers and query parameters that a table of routes asks about, each looked up at most once a request, however many routes ask.

import { type HeaderName, headerName } from '../../mesh/http/header-names.ts'
import type { Fields } from '../../mesh/http/message.ts'
import { queryValue } from './query-value.ts'

type Field =
  | { readonly kind: 'header'; readonly name: HeaderName }
  | { readonly kind: 'query'; readonly name: string }

/** A field of requests, by its place in the table's list. */
export type FieldPlace = number

const NO_FIELDS: Fields = { value: () => undefined, joined: () => undefined, each: () => {} }

export class RequestFields {
  readonly #places = new Map<string, FieldPlace>()
  readonly #fields: Field[] = []
  /** What the request at hand has there; of an earlier one where `#readFor` says so. Kept, so that a request allocates nothing. */
  readonly #values: (string | undefined)[] = []
  readonly #readFor: number[] = []
  #headers = NO_FIELDS
  #query = ''
  #turn = 0

  header(name: string): FieldPlace {
    return this.#place(`header ${name}`, { kind: 'header', name: headerName(name) })
  }

  query(name: string): FieldPlace {
    return this.#place(`query ${name}`, { kind: 'query', name })
  }

  /** Turns to the next request. */
  begin(headers: Fields, query: string): void {
    this.#headers = headers
    this.#query = query
    this.#turn += 1
  }

  /** Lets go of the request, whose memory is not the table's to keep. */
  end(): void {
    this.#headers = NO_FIELDS
    this.#query = ''
  }

  /** Of a header that came several times, all values joined (RFC 9110 5.2); undefined: there is none. */
  value(place: FieldPlace): string | undefined {
    if (this.#readFor[place] === this.#turn) return this.#values[place]
    const field = this.#fields[place]
    if (field === undefined) return undefined
    const value =
      field.kind === 'header'
        ? this.#headers.joined(field.name)
        : queryValue(this.#query, field.name)
    this.#values[place] = value
    this.#readFor[place] = this.#turn
    return value
  }

  #place(key: string, field: Field): FieldPlace {
    const known = this.#places.get(key)
    if (known !== undefined) return known
    const place = this.#fields.push(field) - 1
    this.#places.set(key, place)
    this.#values.push(undefined)
    this.#readFor.push(0)
    return place
  }
}
