// SPDX-License-Identifier: Apache-2.0
// What is wrong with a policy object, and what stays of it: told in the log like every flaw of an object, and kept, because the
// object's own status says it, too.

import { ObjectReader } from '../reading/object-reader.ts'
import { excerpt } from '../../mesh/telemetry/excerpt.ts'

/** `unsupported`: it is well formed, but no agent can tell whether it is so. */
export type FlawKind = 'invalid' | 'unsupported'

export interface Flaw {
  readonly kind: FlawKind
  readonly field: string
  readonly reason: string
}

/** As many as a status can bear; what follows is the same again. */
const MOST_FLAWS = 20

/** Notes the flaws of one policy object. */
export class FlawReader extends ObjectReader {
  readonly #flaws: Flaw[] = []

  get flaws(): readonly Flaw[] {
    return this.#flaws
  }

  /** Notes that what is written here has no meaning. */
  override note(field: string, reason: string): void {
    this.#add('invalid', field, reason)
  }

  /** Notes that nobody can evaluate here what is written. */
  unsupported(field: string, reason: string): void {
    this.#add('unsupported', field, reason)
  }

  #add(kind: FlawKind, field: string, reason: string): void {
    super.note(field, reason)
    if (this.#flaws.length < MOST_FLAWS)
      this.#flaws.push({ kind, field: excerpt(field), reason: excerpt(reason) })
  }
}

export type Fields = Readonly<Record<string, unknown>>

/** What is there of a JSON object; undefined for everything else. */
export function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Fields)
    : undefined
}

/** null is how some clients write that there is nothing. */
export function isAbsent(value: unknown): value is undefined | null {
  return value === undefined || value === null
}

/** Whether an object has fields beside these: they may say anything. */
export function hasOthers(
  reader: Pick<FlawReader, 'note'>,
  field: string,
  fields: Fields,
  known: readonly string[],
): boolean {
  const others = Object.keys(fields).filter(
    (name) => !known.includes(name) && !isAbsent(fields[name]),
  )
  for (const name of others) reader.note(`${field}.${name}`, 'is no field that is known')
  return others.length > 0
}

/** What somebody wrote, as text for a message: bounded, whatever it is. */
export function shown(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(excerpt(value)) : `a ${kindOf(value)}`
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'list'
  return typeof value === 'object' ? 'map' : typeof value
}
