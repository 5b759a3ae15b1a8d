// SPDX-License-Identifier: Apache-2.0
// Fields as names and values, in their order: what HTTP/2 brings, and what is kept of a message beyond the call that brought it.

import type { HeaderName } from './header-names.ts'
import { type Fields, separatorOf } from './message.ts'

/** A name, in lower case, and its value. */
export type Field = readonly [name: string, value: string]

export class FieldList implements Fields {
  /** All of them. */
  fields: readonly Field[]

  constructor(fields: readonly Field[] = []) {
    this.fields = fields
  }

  value({ text }: HeaderName): string | undefined {
    const { fields } = this
    for (let at = 0; at < fields.length; at += 1) {
      const field = fields[at]
      if (field !== undefined && field[0] === text) return field[1]
    }
    return undefined
  }

  joined(name: HeaderName): string | undefined {
    const { fields } = this
    let all: string | undefined
    for (let at = 0; at < fields.length; at += 1) {
      const field = fields[at]
      if (field === undefined || field[0] !== name.text) continue
      if (all === undefined) all = field[1]
      else all += separatorOf(name) + field[1]
    }
    return all
  }

  each(visit: (name: string, value: string) => void): void {
    for (const [name, value] of this.fields) visit(name, value)
  }
}

/** The fields of another message, for as long as they are needed. */
export function keptFields(others: Fields): FieldList {
  const fields: Field[] = []
  others.each((name, value) => void fields.push([name, value]))
  return new FieldList(fields)
}
