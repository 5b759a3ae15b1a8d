// SPDX-License-Identifier: Apache-2.0
// How loud each part of a process is, at run time: one level for all, and others for some. A part is what a logger's `part` says,
// or its component. Loggers that were made before hear of a change as well as those that come.

import type { Logger } from 'pino'
import { err, ok, type Result } from '../result.ts'

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** The level of all parts but those with one of their own. Plain data: threads are told of it. */
export interface LevelSpec {
  readonly level: LogLevel
  readonly parts: Readonly<Record<string, LogLevel>>
}

/** Words that others use for ours. */
const SYNONYMS: Readonly<Record<string, LogLevel>> = {
  warning: 'warn',
  critical: 'fatal',
  off: 'silent',
}

export function isLogLevel(text: string | undefined): text is LogLevel {
  return LOG_LEVELS.some((level) => level === text)
}

/** The level of a part. */
export function levelOf(spec: LevelSpec, part: string): LogLevel {
  return spec.parts[part] ?? spec.level
}

/**
 * What `LEVEL` or `PART:LEVEL,...` makes of the levels so far; the error says what is wrong with which word. A level without a part
 * is for all parts that have none of their own.
 *
 * @example parseLevels('xds:debug,warn', { level: 'info', parts: {} }) // { level: 'warn', parts: { xds: 'debug' } }
 */
export function parseLevels(
  text: string,
  before: LevelSpec,
  isPart: (name: string) => boolean,
): Result<LevelSpec, string> {
  let { level } = before
  const parts: Record<string, LogLevel> = { ...before.parts }
  for (const word of text.split(',').map((each) => each.trim())) {
    const [first = '', second] = word.split(/[:=]/, 2)
    const name = second ?? first
    const wanted = isLogLevel(name) ? name : SYNONYMS[name]
    if (wanted === undefined)
      return err(`"${name.slice(0, 32)}" is no level: take one of ${LOG_LEVELS.join(', ')}`)
    if (second === undefined) level = wanted
    else if (isPart(first)) parts[first] = wanted
    else return err(`"${first.slice(0, 32)}" is no part of this process`)
  }
  return ok({ level, parts })
}

/** The levels of a process's loggers. */
export class LogLevels {
  readonly #initial: LevelSpec
  readonly #component: string
  #spec: LevelSpec
  readonly #parts: Set<string>
  /** Weak: a child lives as long as what it speaks of, a pod for example. */
  readonly #loggers = new Set<WeakRef<Logger>>()
  readonly #gone = new FinalizationRegistry<WeakRef<Logger>>((ref) => this.#loggers.delete(ref))

  constructor(component: string, level: LogLevel) {
    this.#component = component
    this.#initial = { level, parts: {} }
    this.#spec = this.#initial
    this.#parts = new Set([component])
  }

  /** Keeps a logger, and gives it the level of its part. */
  follow(logger: Logger): void {
    const ref = new WeakRef(logger)
    this.#loggers.add(ref)
    this.#gone.register(logger, ref)
    const part = this.#partOf(logger)
    this.#parts.add(part)
    logger.level = levelOf(this.#spec, part)
  }

  get spec(): LevelSpec {
    return this.#spec
  }

  /** What the process was started with. */
  get initial(): LevelSpec {
    return this.#initial
  }

  /** The parts that have spoken up to now. */
  get parts(): readonly string[] {
    return [...this.#parts].sort()
  }

  set(spec: LevelSpec): void {
    this.#spec = spec
    for (const ref of this.#loggers) {
      const logger = ref.deref()
      if (logger !== undefined) logger.level = levelOf(spec, this.#partOf(logger))
    }
  }

  #partOf(logger: Logger): string {
    const { part, component } = logger.bindings()
    if (typeof part === 'string') return part
    return typeof component === 'string' ? component : this.#component
  }
}
