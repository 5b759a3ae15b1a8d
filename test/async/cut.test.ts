// SPDX-License-Identifier: Apache-2.0
// A cut is heard once by everybody who listens, and by nobody who has stopped listening.

import t from 'tap'
import { Cut, type CutSignal } from '../../mesh/async/cut.ts'

await t.test('all who listen hear it, in their order, once', (t) => {
  const cut = new Cut()
  const heard: string[] = []
  cut.addEventListener('abort', () => heard.push('first'))
  cut.addEventListener('abort', () => heard.push('second'))
  t.equal(cut.aborted, false)
  cut.abort('drained')
  cut.abort('podRemoved')
  t.same(heard, ['first', 'second'])
  t.equal(cut.aborted, true)
  t.equal(cut.reason, 'drained', 'the first reason')
  t.end()
})

await t.test('whoever has stopped listening hears nothing, not even while it is told', (t) => {
  const cut = new Cut()
  const heard: string[] = []
  const gone = (): void => {
    heard.push('gone')
  }
  const last = (): void => {
    heard.push('last')
  }
  cut.addEventListener('abort', gone)
  cut.addEventListener('abort', () => cut.removeEventListener('abort', last))
  cut.addEventListener('abort', last)
  cut.removeEventListener('abort', gone)
  cut.abort()
  t.same(heard, [])
  t.end()
})

await t.test('it sees itself aborted when it is told, as an AbortSignal does', (t) => {
  for (const { signal, abort } of [cutOf(new Cut()), controllerOf(new AbortController())]) {
    const seen: unknown[] = []
    signal.addEventListener('abort', () => seen.push(signal.aborted, signal.reason))
    abort('drained')
    signal.addEventListener('abort', () => seen.push('too late'))
    t.same(seen, [true, 'drained'])
  }
  t.end()
})

interface Aborting {
  readonly signal: CutSignal
  readonly abort: (reason: string) => void
}

function cutOf(cut: Cut): Aborting {
  return { signal: cut, abort: (reason) => cut.abort(reason) }
}

function controllerOf(controller: AbortController): Aborting {
  return { signal: controller.signal, abort: (reason) => controller.abort(reason) }
}
