// SPDX-License-Identifier: Apache-2.0
// Lines of plain fields are pino's own, but for the time of their writing.

import fc from 'fast-check'
import { pino } from 'pino'
import t from 'tap'
import { plainLines } from '../../mesh/telemetry/plain-lines.ts'

const RUNS = 200
const TRICKY = [
  '"',
  '\\',
  '\0',
  '\b',
  '\n',
  '\u001f',
  '\u007f',
  '\u0080',
  '\u2028',
  '\ud800',
  '\udfff',
  '\uffff',
  'é',
  '😀',
]

/** A logger with the hook and one without, and the lines of both; how many of the first went round pino. */
function both() {
  const lines = { plain: [] as string[], pino: [] as string[] }
  const around = { count: 0 }
  const options = {
    base: { component: 'access' },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (level: string) => ({ level }) },
    serializers: { error: pino.stdSerializers.err },
  }
  const write = (line: string): void => void lines.plain.push(line)
  const logMethod = plainLines({
    component: 'access',
    write: (line) => {
      around.count += 1
      write(line)
    },
    owner: () => plain,
  })
  const plain = pino({ ...options, hooks: { logMethod } }, { write })
  const other = pino(options, { write: (line) => void lines.pino.push(line) })
  const timeless = (line: string): string =>
    line.replace(/"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"/, '"time":""')
  return {
    loggers: [plain, other] as const,
    around,
    lines: (from = 0) =>
      [lines.plain.slice(from).map(timeless), lines.pino.slice(from).map(timeless)] as const,
  }
}

void t.test('plainLines() writes what pino writes, octet by octet', (t) => {
  const { loggers, lines, around } = both()
  // What either escapes, halves of pairs, and what is more than an octet.
  const unit = fc.constantFrom(...TRICKY, ...'azAZ09 /-')
  const value = fc.oneof(
    fc.string({ unit, maxLength: 60 }),
    fc.integer(),
    fc.double(),
    fc.boolean(),
    fc.constant(undefined),
  )
  const fields = fc.record(
    {
      'src.addr': value,
      path: value,
      bytes_sent: value,
      attempts: value,
      error: value,
      'a "name"\n': value,
    },
    { requiredKeys: [], noNullPrototype: true },
  )
  const message = fc.string({ unit, maxLength: 20 })
  const level = fc.constantFrom('info' as const, 'warn' as const, 'error' as const)
  fc.assert(
    fc.property(fields, message, level, (given, said, loud) => {
      for (const log of loggers) log[loud](given, said)
      const [[plain], [own]] = lines(-1)
      return plain !== undefined && plain === own
    }),
    { numRuns: RUNS },
  )
  t.equal(around.count, RUNS, 'none of them by pino')
  t.end()
})

void t.test('plainLines() leaves to pino what is not plain, and what children log', (t) => {
  const { loggers, lines, around } = both()
  const thrown = new Error('gone')
  for (const log of loggers) {
    log.info({ error: thrown }, 'an error')
    log.info({ path: ['a', 'b'], none: null }, 'a list')
    log.info({ a: 1 }, 'of %s', 'these')
    log.info({ a: 1 }, '100%%')
    log.info({ a: 1 })
    log.info('words alone')
    log.info(thrown, 'an error by itself')
    log.child({ part: 'calls' }).info({ a: 1 }, 'of a part')
    log.debug({ a: 1 }, 'below its level')
  }
  const [plain, own] = lines()
  t.same(plain, own)
  t.equal(plain.length, 8)
  t.equal(around.count, 0)
  t.end()
})
