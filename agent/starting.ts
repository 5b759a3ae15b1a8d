// SPDX-License-Identifier: Apache-2.0
// What each part of the agent is started with, and lets itself be stopped by.

import type { AuditJournal } from '../mesh/audit/journal.ts'
import type { AmbitError } from '../mesh/errors.ts'
import type { Readiness } from '../mesh/program/readiness.ts'
import type { Result } from '../mesh/result.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import type { LogLevels } from '../mesh/telemetry/log-levels.ts'
import type { AgentConfig } from './config.ts'

export interface Starting {
  readonly config: AgentConfig
  readonly log: Logger
  /** What is refused, closed and granted on this node. */
  readonly audit: AuditJournal
  readonly levels: LogLevels
  readonly readiness: Readiness
  /** Each part defers how it is let go of; the last started goes first. */
  readonly started: AsyncDisposableStack
  readonly ending: Ending
}

/** Whether the pods leave the mesh when the agent ends; known once it runs: an agent that failed to start takes no pod out. */
export interface Ending {
  unpin: boolean
}

/** The value, or its error thrown: a part that cannot start ends the start. */
export function unwrap<T>(result: Result<T, AmbitError>): T {
  if (!result.ok) throw result.error
  return result.value
}
