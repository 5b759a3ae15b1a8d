// SPDX-License-Identifier: Apache-2.0
// Reading a Kubernetes object: what the mesh needs of it, and what is wrong with it. The API server validates much of
// this, but not all, and not every API server is the same: nothing read here may throw.

import { parseIpAddress } from '../../mesh/model/address.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { excerpt } from '../../mesh/telemetry/excerpt.ts'

const MAX_PORT = 65_535
/** Flaws that are told of one object; what follows is the same again, or meant to fill our log. */
const MOST_PROBLEMS = 20

/** One flaw of one object. */
export interface ObjectProblem {
  readonly kind: string
  readonly namespace: string
  readonly name: string
  readonly field: string
  readonly reason: string
}

/** What came of reading an object. */
export interface Reading<T> {
  /** Undefined when the object is nothing to the mesh (yet, any more, or ever). */
  readonly facts: T | undefined
  readonly problems: readonly ObjectProblem[]
}

/** Reads the fields of one object and notes what is wrong with them; what is wrong is left out. */
export class ObjectReader {
  readonly problems: ObjectProblem[] = []
  readonly #kind: string
  readonly #namespace: string
  readonly #name: string

  constructor(
    kind: string,
    metadata: { readonly namespace?: unknown; readonly name?: unknown } | null | undefined,
  ) {
    this.#kind = kind
    this.#namespace = typeof metadata?.namespace === 'string' ? metadata.namespace : ''
    this.#name = typeof metadata?.name === 'string' ? metadata.name : ''
  }

  note(field: string, reason: string): void {
    if (this.problems.length > MOST_PROBLEMS) return
    const isLast = this.problems.length === MOST_PROBLEMS
    this.problems.push({
      kind: this.#kind,
      namespace: this.#namespace,
      name: this.#name,
      field: excerpt(field),
      reason: isLast ? 'is not the last flaw; no more are told' : excerpt(reason),
    })
  }

  /** A list; absent is empty. */
  list<T>(field: string, value: readonly T[] | null | undefined): readonly T[] {
    if (value === undefined || value === null) return []
    if (!Array.isArray(value)) {
      this.note(field, 'is not a list')
      return []
    }
    return (value as readonly (T | null)[]).filter((item, index): item is T => {
      if (item !== null && item !== undefined) return true
      this.note(`${field}[${index}]`, 'is empty')
      return false
    })
  }

  /** A text; absent is empty. */
  text(field: string, value: string | null | undefined): string {
    if (value === undefined || value === null) return ''
    if (typeof value === 'string') return value
    this.note(field, 'is not a text')
    return ''
  }

  /** Labels or annotations; entries that are not texts are left out. */
  texts(
    field: string,
    value: Readonly<Record<string, string>> | null | undefined,
  ): ReadonlyMap<string, string> {
    if (value === undefined || value === null) return new Map()
    if (typeof value !== 'object') {
      this.note(field, 'is not a map')
      return new Map()
    }
    const entries = Object.entries(value).filter(([key, text]) => {
      if (typeof text === 'string') return true
      this.note(`${field}[${key}]`, 'is not a text')
      return false
    })
    return new Map(entries)
  }

  /** A port from 1 to 65535. */
  port(field: string, value: unknown): number | undefined {
    if (typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= MAX_PORT)
      return value
    this.note(field, `${JSON.stringify(value)} is not a port`)
    return undefined
  }

  ip(field: string, value: unknown): IpAddress | undefined {
    const address = typeof value === 'string' ? parseIpAddress(value) : undefined
    if (address === undefined) this.note(field, `${JSON.stringify(value)} is not an IP address`)
    return address
  }
}
