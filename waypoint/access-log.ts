// SPDX-License-Identifier: Apache-2.0
// The access log of a waypoint: which requests and calls get a line, and where it goes. Filter and sample are the agents', and change while
// it runs; what one client may cause is bounded, and what is missing is said in the next line. Hot: once a request.

import { KeyedBuckets } from '../mesh/async/keyed-buckets.ts'
import {
  type AccessFilter,
  type FieldTable,
  parseAccessFilter,
} from '../mesh/telemetry/access-filter/parse.ts'
import type { AccessFields } from '../mesh/telemetry/access-line.ts'
import { type AccessSpec, filterReader } from '../mesh/telemetry/access-spec.ts'
import type { BatchedLogger } from '../mesh/telemetry/log.ts'
import { jsonOfFields } from '../mesh/telemetry/plain-lines.ts'
import type { Batches } from '../mesh/telemetry/otlp/batches.ts'
import type { LogLine } from '../mesh/telemetry/otlp/encode-logs.ts'

/** A line that could be written. */
export interface AccessLine {
  /** For filters and collectors: most lines are only printed. */
  readonly fields: AccessFields
  /** The same as JSON, without the braces. */
  readonly json: string
  readonly durationMs: number
}

export interface WaypointAccessLogOptions {
  readonly log: Pick<BatchedLogger, 'log' | 'print'>
  /** Takes the lines that are written, to send them elsewhere as well. */
  readonly exported?: Batches<LogLine> | undefined
  readonly random?: () => number
}

/** Lines that one client may cause: as a pod may, of its agent. */
const CLIENT_LINES = { burst: 5_000, perSecond: 500 }
const STRANGERS = ''

const TEXTS = [
  'src.addr',
  'src.workload',
  'src.namespace',
  'src.identity',
  'src.cluster',
  'dst.addr',
  'dst.hbone_addr',
  'dst.service',
  'dst.workload',
  'dst.namespace',
  'dst.identity',
  'dst.cluster',
  'protocol',
  'method',
  'path',
  'authority',
  'route',
  'policy',
  'response_flags',
  'trace_id',
  'error',
] as const
const NUMBERS = ['response_code', 'bytes_sent', 'bytes_recv', 'attempts'] as const
/** Which most lines do not have; 0 is one of their values. */
const SOME_NUMBERS = ['grpc_status', 'rule'] as const

/** What a filter can ask about: the fields of the lines, by their names. */
const FIELDS: FieldTable<AccessLine> = Object.fromEntries([
  ...TEXTS.map((name) => [
    name,
    { kind: 'text' as const, read: ({ fields }: AccessLine) => String(fields[name] ?? '') },
  ]),
  ...NUMBERS.map((name) => [
    name,
    { kind: 'number' as const, read: ({ fields }: AccessLine) => Number(fields[name] ?? 0) },
  ]),
  ...SOME_NUMBERS.map((name) => [
    name,
    {
      kind: 'number' as const,
      read: ({ fields }: AccessLine) => Number(fields[name] ?? Number.NaN),
    },
  ]),
  ['duration', { kind: 'number' as const, read: ({ durationMs }: AccessLine) => durationMs }],
])

/** Reads an expression over the fields of a waypoint's lines. */
export const readRequestFilter = filterReader((text) => parseAccessFilter(text, FIELDS))

export class WaypointAccessLog {
  readonly #options: WaypointAccessLogOptions
  readonly #clients = new KeyedBuckets(CLIENT_LINES)
  #filter: AccessFilter<AccessLine> | undefined
  #sample = 1
  #keptBack = 0
  #sampledOut = 0

  constructor(options: WaypointAccessLogOptions, spec: AccessSpec) {
    this.#options = options
    this.set(spec)
  }

  /** From now on. An expression that cannot be read, which nobody lets through, filters nothing. */
  set({ filter, sample }: AccessSpec): void {
    const parsed = filter === undefined ? undefined : parseAccessFilter(filter, FIELDS)
    this.#filter = parsed?.ok === true ? parsed.value : undefined
    this.#sample = sample
  }

  isEnabled(level: LogLine['severity']): boolean {
    return this.#options.log.log.isLevelEnabled(level)
  }

  /** Writes a line, if it is wanted. Errors are never left to chance. */
  write(
    level: LogLine['severity'],
    client: string | undefined,
    line: AccessLine,
    message: string,
  ): void {
    const { log, exported, random = Math.random } = this.#options
    if (this.#filter !== undefined && !this.#filter(line)) return
    if (this.#sample < 1 && level === 'info' && random() >= this.#sample) {
      this.#sampledOut += 1
      return
    }
    if (!this.#clients.take(client ?? STRANGERS)) {
      this.#keptBack += 1
      return
    }
    const missing = this.#missing()
    log.print(level, missing === undefined ? line.json : join(line.json, missing), message)
    exported?.add({
      severity: level,
      atMs: Date.now(),
      body: message,
      attributes: missing === undefined ? line.fields : { ...line.fields, ...missing },
    })
  }

  /** What is to be said of lines that were not written since the last; undefined: there are none. */
  #missing(): AccessFields | undefined {
    const [keptBack, sampledOut] = [this.#keptBack, this.#sampledOut]
    if (keptBack === 0 && sampledOut === 0) return undefined
    this.#keptBack = this.#sampledOut = 0
    return {
      ...(keptBack > 0 && { lines_kept_back: keptBack }),
      ...(sampledOut > 0 && { lines_sampled_out: sampledOut }),
    }
  }
}

function join(json: string, missing: AccessFields): string {
  return json === '' ? jsonOfFields(missing) : `${json},${jsonOfFields(missing)}`
}
