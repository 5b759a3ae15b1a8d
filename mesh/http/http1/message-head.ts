// SPDX-License-Identifier: Apache-2.0
// What the heads of a request and of an answer have in common: the lines after the first one, and what they say of the connection.

import { HEADER, type HeaderName } from '../header-names.ts'
import { type ConnectionOptions, connectionOptions, NO_OPTIONS } from './connection-options.ts'
import { HeaderBlock } from './header-block.ts'
import { LARGEST_HEAD_BYTES } from './limits.ts'
import { BAD, type HttpProblem, INCOMPLETE, PROBLEM } from './problem.ts'

export abstract class Http1MessageHead {
  readonly block = new HeaderBlock()
  options: ConnectionOptions = NO_OPTIONS
  /** Whether the connection may go on after it. */
  isPersistent = true
  problem: HttpProblem | undefined

  value(name: HeaderName): string | undefined {
    return this.block.value(name)
  }

  get nominated(): readonly string[] {
    return this.options.nominated
  }

  joined(name: HeaderName): string | undefined {
    return this.block.joined(name)
  }

  each(visit: (name: string, value: string) => void): void {
    this.block.each(visit)
  }

  /** Forgets the head before; gives the offset up to which this one may be. */
  protected begin(start: number, end: number): number {
    this.problem = undefined
    this.block.clear()
    return Math.min(end, start + LARGEST_HEAD_BYTES)
  }

  /** Reads the lines from `read`, where the first line ended if it did: the offset after the head, INCOMPLETE or BAD. */
  protected readBlock(
    bytes: Buffer,
    start: number,
    read: number,
    limit: number,
    end: number,
  ): number {
    const after = read > 0 ? this.block.parse(bytes, read, limit) : read
    if (after === BAD) this.problem ??= this.block.problem
    if (after === INCOMPLETE && end - start >= LARGEST_HEAD_BYTES)
      return this.bad(PROBLEM.largeHead)
    return after
  }

  /** RFC 9112 9.3: what the fields say of the connection. */
  protected understandConnection(isOld: boolean): HttpProblem | undefined {
    const { block } = this
    const options = block.firstOf(HEADER.connection) < 0 ? NO_OPTIONS : connectionOptions(block)
    if (options === undefined) return PROBLEM.connection
    this.options = options
    this.isPersistent = isOld ? options.isKeepAlive && !options.isClose : !options.isClose
    return undefined
  }

  protected bad(problem: HttpProblem): number {
    this.problem = problem
    return BAD
  }
}
