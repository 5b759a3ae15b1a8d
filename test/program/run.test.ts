// SPDX-License-Identifier: Apache-2.0
// The frame of the programs: how they end, and with which exit code.

import { pino } from 'pino'
import t from 'tap'
import { AmbitError } from '../../mesh/errors.ts'
import { releaseAll } from '../../mesh/program/release.ts'
import { runProgram } from '../../mesh/program/run.ts'
import { err, ok } from '../../mesh/result.ts'

interface Line {
  readonly msg: string
  readonly code?: string
  readonly error?: string
}

function recorder(): { log: pino.Logger; lines: Line[] } {
  const lines: Line[] = []
  const log = pino({ base: null }, { write: (text) => lines.push(JSON.parse(text) as Line) })
  return { log, lines }
}

void t.test('a program runs until it is told to end, and stops once', async (t) => {
  const { log, lines } = recorder()
  let stops = 0
  const code = await runProgram({
    name: 'sample',
    log,
    start: (_signal, end) => {
      setImmediate(end)
      return Promise.resolve(ok({ stop: () => Promise.resolve(void (stops += 1)) }))
    },
    stopDeadlineMs: 1_000,
  })
  t.same([code, stops], [0, 1])
  t.equal(lines.at(-1)?.msg, 'stopped')
})

void t.test('a signal ends it', async (t) => {
  const { log, lines } = recorder()
  const code = await runProgram({
    name: 'sample',
    log,
    start: () => {
      setImmediate(() => process.emit('SIGTERM', 'SIGTERM'))
      return Promise.resolve(ok({ stop: () => Promise.resolve() }))
    },
    stopDeadlineMs: 1_000,
  })
  t.equal(code, 0)
  t.match(lines[0], { msg: 'stopping', signal: 'SIGTERM' })
})

void t.test('a start that fails is told with its code, unless it was given up', async (t) => {
  const failure = err(new AmbitError('AMB_LISTEN', 'Cannot listen'))
  const { log, lines } = recorder()
  const start = () => Promise.resolve(failure)
  t.equal(await runProgram({ name: 'sample', log, start, stopDeadlineMs: 1 }), 1)
  t.match(lines, [{ code: 'AMB_LISTEN', msg: 'Cannot listen' }])
  const givenUp = (_signal: AbortSignal, end: () => void) => {
    end()
    return Promise.resolve(failure)
  }
  t.equal(await runProgram({ name: 'sample', log, start: givenUp, stopDeadlineMs: 1 }), 0)
  const thrown = () => Promise.reject(new Error('broken'))
  t.equal(await runProgram({ name: 'sample', log, start: thrown, stopDeadlineMs: 1 }), 1)
  t.match(lines.at(-1), { error: 'broken', msg: 'the sample failed' })
})

void t.test('a stop that hangs does not keep the program', async (t) => {
  const { log, lines } = recorder()
  const code = await runProgram({
    name: 'sample',
    log,
    start: (_signal, end) => {
      end()
      return Promise.resolve(ok({ stop: () => new Promise<void>(() => undefined) }))
    },
    stopDeadlineMs: 1,
  })
  t.equal(code, 0)
  t.match(lines.at(-1)?.msg, /did not stop in time/)
})

void t.test(
  'what fails to stop is told, and the rest stops all the same, last first',
  async (t) => {
    const { log, lines } = recorder()
    const stopped: string[] = []
    const stack = new AsyncDisposableStack()
    stack.defer(() => void stopped.push('first'))
    stack.defer(() => Promise.reject(new Error('one is stuck')))
    stack.defer(() => void stopped.push('third'))
    stack.defer(() => Promise.reject(new Error('the other, too')))
    await releaseAll(stack, log)
    t.same(stopped, ['third', 'first'])
    t.same(
      lines.map(({ error }) => error),
      ['the other, too', 'one is stuck'],
    )
  },
)
