// SPDX-License-Identifier: Apache-2.0
// A peer that falls silent, on a clock that the test moves: who asked hears of it in time, and nobody else.

import t from 'tap'
import { type AskedSilence, LOOK_MS, SilenceWatch } from '../../mesh/http2/peer-silence.ts'

const CODE = 7
/** Keepalive of 2 s, 1 s and 3 probes. */
const KEEPALIVE: AskedSilence = { probeMs: 2_000, idleMs: 5_000, unansweredMs: Infinity }
const USER_TIMEOUT: AskedSilence = { probeMs: Infinity, idleMs: Infinity, unansweredMs: 3_000 }

class Story {
  now = 1_000_000
  /** When, from the beginning of the story, in milliseconds. */
  readonly pings: number[] = []
  readonly cuts: string[] = []
  doubts = 0
  reads = 0
  /** What the kernel says of the way; nothing unless a story says so. */
  way: { acknowledgedBytes: number; unacknowledged: number; heardAt: number } | undefined
  /** Whether the peer answers a PING, by the next look. */
  isThere = true
  readonly watch: SilenceWatch
  readonly #begin = this.now

  constructor() {
    const ping = (): void => {
      this.pings.push(this.at)
      if (this.isThere) this.reads += 1
    }
    const reads = (): number => this.reads
    this.watch = new SilenceWatch({
      get reads() {
        return reads()
      },
      ping,
      way: () => this.way && { ...this.way, heardAgoMs: this.now - this.way.heardAt },
      doubt: () => {
        this.doubts += 1
      },
    })
  }

  get at(): number {
    return this.now - this.#begin
  }

  stream(
    name: string,
    asked: AskedSilence,
    written = 0,
  ): { written: number; cut(code: number): void } {
    const stream = {
      written,
      cut: (code: number): void => {
        this.cuts.push(`${name} at ${this.at} by ${code}`)
        this.watch.forget(stream)
      },
    }
    this.watch.ask(stream, asked, CODE, this.now)
    return stream
  }

  pass(milliseconds: number, stepMs = LOOK_MS): void {
    for (let passed = 0; passed < milliseconds; passed += stepMs) {
      this.now += stepMs
      this.watch.look(this.now)
    }
  }
}

function begin(t: { teardown(run: () => void): void }): Story {
  const story = new Story()
  const forgetAll = story.stream('other', { probeMs: 60_000, idleMs: 60_000, unansweredMs: 60_000 })
  t.teardown(() => story.watch.forget(forgetAll))
  return story
}

void t.test('an idle app with keepalive hears of a peer that is gone in its time', (t) => {
  const story = begin(t)
  story.stream('app', KEEPALIVE)
  story.pass(1_000)
  story.isThere = false
  story.pass(20_000)
  t.same(story.cuts, ['app at 5000 by 7'], 'and one that asks for more patience goes on')
  t.same(story.pings, [2_000], 'one PING, until something is heard')
  t.equal(story.doubts, 1, 'nothing new is begun on such a connection')
  t.end()
})

void t.test('a peer that answers is asked no more often than the app asks for', (t) => {
  const story = begin(t)
  const app = story.stream('app', KEEPALIVE)
  story.pass(60_000)
  t.same(story.cuts, [])
  t.ok(story.pings.length > 20 && story.pings.length <= 30, `${story.pings.length} in a minute`)
  story.watch.forget(app)
  const before = story.pings.length
  story.pass(20_000)
  t.equal(story.pings.length, before, 'and none once that app is gone')
  t.end()
})

void t.test('a thousand apps that ask for the impossible cause a PING a second', (t) => {
  const story = begin(t)
  const greedy = { probeMs: 1, idleMs: 1, unansweredMs: 1 }
  const apps = Array.from({ length: 1_000 }, (_, each) => story.stream(`app ${each}`, greedy))
  for (let second = 0; second < 60; second += 1) {
    for (const app of apps) app.written += 1
    story.pass(1_000)
  }
  t.same(story.cuts, [])
  const gaps = story.pings.slice(1).map((at, index) => at - (story.pings[index] ?? 0))
  t.ok(
    gaps.every((gap) => gap >= 1_000),
    'however much they ask',
  )
  story.isThere = false
  const from = story.at
  story.pass(10_000)
  t.equal(story.cuts.length, 1_000)
  t.equal(
    story.cuts[0],
    `app 0 at ${from + 2_000} by 7`,
    'no sooner than 2 s after the last answer',
  )
  t.end()
})

void t.test('the user time-out counts while something is unanswered, and only then', (t) => {
  const story = begin(t)
  const [quiet, busy] = [story.stream('quiet', USER_TIMEOUT), story.stream('busy', USER_TIMEOUT)]
  t.teardown(() => story.watch.forget(quiet))
  story.isThere = false
  story.pass(20_000)
  t.same(story.cuts, [], 'an idle connection has no such end')
  t.same(story.pings, [], 'and nobody is asked')
  busy.written += 5
  story.pass(20_000)
  t.same(story.cuts, ['busy at 23000 by 7'])
  t.end()
})

void t.test('what is written just after the peer was heard counts as unanswered', (t) => {
  const story = begin(t)
  const app = story.stream('app', USER_TIMEOUT)
  story.pass(5_000)
  story.reads += 1
  app.written += 5
  story.isThere = false
  story.pass(10_000)
  t.same(story.cuts, ['app at 8500 by 7'], 'three seconds after the look that heard it')
  t.end()
})

void t.test('what was written before the app asked counts too', (t) => {
  const story = begin(t)
  story.isThere = false
  story.stream('app', USER_TIMEOUT, 5)
  story.pass(10_000)
  t.same(story.cuts, ['app at 3000 by 7'])
  t.end()
})

void t.test('a late thread does not take its own lateness for the silence of its peer', (t) => {
  const story = begin(t)
  story.stream('app', KEEPALIVE)
  story.pass(2_500)
  t.same(story.pings, [2_000])
  story.isThere = false
  // The machine stood still for a minute, and the answer is read after the first look.
  story.pass(60_000, 60_000)
  t.same(story.cuts, [])
  story.reads += 1
  story.isThere = true
  story.pass(10_000)
  t.same(story.cuts, [])
  t.end()
})

void t.test(
  'a thread that is always late lets no app wait for a multiple of what it asked',
  (t) => {
    const story = begin(t)
    story.stream('idle', KEEPALIVE)
    const busy = story.stream('busy', USER_TIMEOUT)
    story.isThere = false
    busy.written += 5
    story.pass(30_000, 2_500)
    t.same(
      story.cuts,
      ['idle at 7500 by 7', 'busy at 7500 by 7'],
      'at the look after the one that doubted',
    )
    t.end()
  },
)

void t.test('a peer that sends again and again, for it cannot hear us, is silent to us', (t) => {
  const story = begin(t)
  story.stream('app', KEEPALIVE)
  story.isThere = false
  story.way = { acknowledgedBytes: 1_000, unacknowledged: 1, heardAt: 0 }
  for (let step = 0; step < 20; step += 1) {
    story.way.heardAt = story.now
    story.pass(LOOK_MS)
  }
  t.same(story.cuts, ['app at 5000 by 7'])
  t.end()
})

void t.test('a peer whose window is closed answers probes, and is there', (t) => {
  const story = begin(t)
  story.stream('app', KEEPALIVE)
  story.isThere = false
  story.way = { acknowledgedBytes: 1_000, unacknowledged: 0, heardAt: 0 }
  for (let step = 0; step < 60; step += 1) {
    if (step % 4 === 0) story.way.heardAt = story.now
    story.pass(LOOK_MS)
  }
  t.same(story.cuts, [])
  story.pass(10_000)
  t.equal(story.cuts.length, 1, 'and gone when it answers those no more')
  t.end()
})

void t.test('a peer whose kernel acknowledges is there, however late its agent answers', (t) => {
  const story = begin(t)
  const app = story.stream('app', KEEPALIVE)
  const bulk = story.stream('bulk', USER_TIMEOUT)
  story.isThere = false
  for (let step = 0; step < 60; step += 1) {
    bulk.written += 65_536
    story.way = { acknowledgedBytes: bulk.written, unacknowledged: 9, heardAt: story.now }
    story.pass(LOOK_MS)
  }
  t.same(story.cuts, [])
  const from = story.at
  bulk.written += 1
  story.pass(10_000)
  t.equal(story.cuts.length, 2, 'and when it does so no more, both hear of it')
  for (const cut of story.cuts) {
    const at = Number(/ at (\d+) /.exec(cut)?.[1]) - from
    t.ok(at >= (cut.startsWith('app') ? 4_500 : 2_500) && at <= 7_000, `${cut}, ${at} ms later`)
  }
  story.watch.forget(app)
  t.end()
})

void t.test('an app that asks for nothing any more is not watched', (t) => {
  const story = begin(t)
  const app = story.stream('app', KEEPALIVE)
  t.equal(story.watch.size, 2)
  story.watch.ask(app, undefined, CODE, story.now)
  t.equal(story.watch.size, 1)
  story.isThere = false
  story.pass(20_000)
  t.same(story.cuts, [])
  t.end()
})
