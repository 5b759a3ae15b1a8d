// SPDX-License-Identifier: Apache-2.0
// The audit of a process: every event is a line, a flood of one owner's is cut and counted, and readers get what they ask for.

import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { type AuditEvent, auditLine } from '../../mesh/audit/event.ts'
import { AuditJournal } from '../../mesh/audit/journal.ts'
import { AuditReader } from '../../mesh/audit/reader.ts'

const EVERYTHING = { namespace: undefined, since: undefined, follow: false }

const denial = (change: Partial<AuditEvent> = {}): AuditEvent => ({
  kind: 'connection.denied',
  time: Date.UTC(2026, 0, 2, 3, 4, 5),
  namespace: 'shop',
  who: 'spiffe://cluster.local/ns/shop/sa/intruder',
  what: 'pod shop/catalog, 10.0.0.7:8080',
  object: 'AuthorizationPolicy shop/only-frontend',
  rule: 2,
  why: 'allow policies exist, but none allowed',
  ...change,
})

type Line = Record<string, unknown>
const read = (line: string): Line => JSON.parse(line) as Line

void t.test('a line says who did what, which object and rule decided, and why', (t) => {
  t.same(read(auditLine(denial({ details: { 'dst.addr': '10.0.0.7:8080' } }))), {
    time: '2026-01-02T03:04:05.000Z',
    audit: 'connection.denied',
    namespace: 'shop',
    who: 'spiffe://cluster.local/ns/shop/sa/intruder',
    what: 'pod shop/catalog, 10.0.0.7:8080',
    object: 'AuthorizationPolicy shop/only-frontend',
    rule: 2,
    why: 'allow policies exist, but none allowed',
    'dst.addr': '10.0.0.7:8080',
  })
  t.ok(auditLine(denial({ who: 'x'.repeat(100_000) })).length < 1_000, 'however long a name is')
  t.notMatch(auditLine(denial({ who: 'a\nb' })), /\n/, 'one line, whatever is in it')
  t.end()
})

void t.test('a flood of one owner is cut and counted, and hides nobody else', (t) => {
  let now = 0
  const lines: Line[] = []
  const journal = new AuditJournal({
    write: (line) => lines.push(read(line)),
    budget: { burst: 3, perSecond: 1 },
    now: () => now,
  })
  for (let count = 0; count < 100_000; count += 1) journal.record('shop/noisy', denial())
  t.equal(lines.length, 3)
  journal.record('shop/quiet', denial({ who: 'another' }))
  t.match(lines.at(-1), { who: 'another' })
  t.notOk('leftOut' in (lines.at(-1) ?? {}), 'the count is that of who caused it')
  now += 1_000
  journal.record('shop/noisy', denial(), 5)
  t.match(
    lines.at(-1),
    { leftOut: 99_997 + 5 },
    'the next line says how many are missing before it',
  )
  journal.record('shop/noisy', denial())
  journal.close()
  t.match(lines.at(-1), { audit: 'leftOut', who: 'shop/noisy', leftOut: 1, namespace: 'shop' })
  t.end()
})

void t.test(
  'whoever asks first makes no event that is left out, and it is counted all the same',
  (t) => {
    const lines: Line[] = []
    const journal = new AuditJournal({
      write: (line) => lines.push(read(line)),
      budget: { burst: 2, perSecond: 0.001 },
    })
    const admitted = Array.from({ length: 5 }, () => journal.admits('shop/noisy', 'shop'))
    t.strictSame(admitted, [true, true, false, false, false])
    journal.recordAdmitted('shop/noisy', denial())
    t.match(lines, [{ audit: 'connection.denied', leftOut: 3 }])
    journal.close()
    t.equal(lines.length, 1, 'there is nothing more to tell')
    t.end()
  },
)

void t.test('thousands of owners that are cut take no more room than a bounded number', (t) => {
  const lines: Line[] = []
  const journal = new AuditJournal({
    write: (line) => lines.push(read(line)),
    budget: { burst: 1, perSecond: 0.001 },
  })
  for (let owner = 0; owner < 5_000; owner += 1)
    for (let count = 0; count < 2; count += 1) journal.record(`shop/pod-${owner}`, denial())
  t.equal(lines.length, 5_000)
  journal.close()
  const told = lines.slice(5_000)
  t.ok(told.length <= 1_001, `${told.length} lines tell of what was left out`)
  t.equal(
    told.reduce((sum, { leftOut }) => sum + Number(leftOut), 0),
    5_000,
    'all are counted',
  )
  t.end()
})

void t.test('a reader gets the last entries, by namespace and time', async (t) => {
  const journal = new AuditJournal({ write: () => undefined, keptLines: 4 })
  for (let at = 0; at < 6; at += 1)
    journal.record(`owner-${at}`, denial({ time: at * 1_000, namespace: at % 2 ? 'shop' : 'mesh' }))
  const times = async (query: Partial<typeof EVERYTHING> | object): Promise<number[]> => {
    const lines = await text(new AuditReader(journal, { ...EVERYTHING, ...query }))
    return lines
      .split('\n')
      .slice(0, -1)
      .map((line) => Date.parse(String(read(line).time)) / 1_000)
  }
  t.same(await times({}), [2, 3, 4, 5], 'what is kept')
  t.same(await times({ namespace: 'shop' }), [3, 5])
  t.same(await times({ since: 4_000 }), [4, 5])
  t.same(await times({ since: 60_000 }), [])
})

void t.test('a reader that follows gets what comes, and is told what it missed', async (t) => {
  const journal = new AuditJournal({ write: () => undefined, keptLines: 8 })
  const reader = new AuditReader(journal, { ...EVERYTHING, follow: true })
  const lines: Line[] = []
  const arrived = (): Promise<unknown> => once(reader, 'data')
  const first = arrived()
  reader.on('data', (line: string) => lines.push(...line.split('\n').filter(Boolean).map(read)))
  journal.record('a', denial({ who: 'first' }))
  await first
  t.match(lines, [{ who: 'first' }])

  // It reads no more, and more comes than is kept for it and than its stream takes.
  reader.pause()
  for (let count = 0; count < 1_000; count += 1)
    journal.record(`owner-${count}`, denial({ who: `later-${count}` }))
  const second = arrived()
  reader.resume()
  await second
  await new Promise<void>((resolve) => {
    const check = (): void => {
      if (lines.at(-1)?.who === 'later-999') resolve()
    }
    check()
    reader.on('data', check)
  })
  const missed = lines.find((line) => line.audit === 'leftOut')
  const got = lines.filter((line) => String(line.who).startsWith('later-')).length
  t.ok(missed, 'it is told')
  t.equal(got + Number(missed?.leftOut), 1_000, 'exactly how many')
  reader.destroy()
  await once(reader, 'close')
  journal.record('z', denial())
  t.equal(lines.at(-1)?.who, 'later-999', 'nothing comes after its end')
})
