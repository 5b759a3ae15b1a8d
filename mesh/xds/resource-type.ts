// SPDX-License-Identifier: Apache-2.0
// What discovery knows of a type of resource: its name on the wire and the way between values and bytes. One file a type
// (types/), used by both ends; neither client nor server knows what a resource means.

import type { Result } from '../result.ts'

/** Why a resource cannot be used: which one, which field, and what is wrong with it. */
export interface ResourceProblem {
  readonly resource: string
  readonly field: string
  readonly reason: string
}

/** A type of resource that travels over delta discovery. */
export interface ResourceType<T> {
  readonly typeUrl: string
  /** The name of the resource that the value is. */
  readonly name: (value: T) => string
  /** Further names under which clients may ask for it. */
  readonly aliases: (value: T) => readonly string[]
  readonly encode: (value: T) => Uint8Array
  /** Reads the resource that came under this name. Never throws; costs no more than in proportion to the bytes. */
  readonly decode: (name: string, bytes: Uint8Array) => Result<T, ResourceProblem>
}

/** Writes a problem in one sentence. */
export function formatResourceProblem(problem: ResourceProblem): string {
  return `Cannot use resource ${problem.resource}: ${problem.field}: ${problem.reason}`
}
