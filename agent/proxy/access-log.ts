// SPDX-License-Identifier: Apache-2.0
// The access log of a worker: which connections get a line, and where it goes. Hot: once per connection.

import {
  ACCESS_MESSAGE,
  accessFields,
  OPENED_MESSAGE,
  openedFields,
} from '../../mesh/telemetry/access-line.ts'
import { parseConnectionFilter } from '../../mesh/telemetry/access-filter/fields.ts'
import type { AccessFilter } from '../../mesh/telemetry/access-filter/parse.ts'
import type { AccessSpec } from '../../mesh/telemetry/access-spec.ts'
import type { ConnectionAbout, ConnectionRecord } from '../../mesh/telemetry/connection-record.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import type { Batches } from '../../mesh/telemetry/otlp/batches.ts'
import type { LogLine } from '../../mesh/telemetry/otlp/encode-logs.ts'

type AccessLevel = 'info' | 'error'

/** How many lines of the pod there are not, since the last one. */
interface MissingLines {
  /** For want of budget. */
  readonly keptBack: number
  /** By the share that is written. */
  readonly sampledOut: number
}

interface AccessLogOptions {
  readonly log: Logger
  /** Takes the lines that are written, to send them elsewhere as well. */
  readonly exported?: Batches<LogLine> | undefined
  readonly random?: () => number
}

export class AccessLog {
  readonly #log: Logger
  readonly #exported: Batches<LogLine> | undefined
  readonly #random: () => number
  #filter: AccessFilter<ConnectionRecord> | undefined
  #sample = 1

  constructor({ log, exported, random = Math.random }: AccessLogOptions) {
    this.#log = log
    this.#exported = exported
    this.#random = random
  }

  /** From now on. An expression that cannot be read, which the main thread does not let through, filters nothing. */
  set({ filter, sample }: AccessSpec): void {
    const parsed = filter === undefined ? undefined : parseConnectionFilter(filter)
    this.#filter = parsed?.ok === true ? parsed.value : undefined
    this.#sample = sample
  }

  isEnabled(level: AccessLevel | 'debug'): boolean {
    return this.#log.isLevelEnabled(level)
  }

  /** Whether passes() has to be asked. */
  get isFiltered(): boolean {
    return this.#filter !== undefined
  }

  passes(record: ConnectionRecord): boolean {
    return this.#filter === undefined || this.#filter(record)
  }

  /** Whether a line that is wanted is written, and what is missing before it. Errors are never left to chance. */
  take(level: AccessLevel, budget: LogBudget): MissingLines | undefined {
    if (this.#sample < 1 && level === 'info' && this.#random() >= this.#sample) {
      budget.skip()
      return undefined
    }
    const keptBack = budget.take()
    return keptBack === undefined ? undefined : { keptBack, sampledOut: budget.takeSkipped() }
  }

  write(
    level: AccessLevel,
    record: ConnectionRecord,
    { keptBack, sampledOut }: MissingLines,
  ): void {
    const fields = accessFields(record)
    if (keptBack > 0) fields['lines_kept_back'] = keptBack
    if (sampledOut > 0) fields['lines_sampled_out'] = sampledOut
    this.#log[level](fields, ACCESS_MESSAGE)
    this.#exported?.add({
      severity: level,
      atMs: Date.now(),
      body: ACCESS_MESSAGE,
      attributes: fields,
    })
  }

  /** At the level debug: a connection stands. */
  opened(about: ConnectionAbout): void {
    this.#log.debug(openedFields(about), OPENED_MESSAGE)
  }
}
