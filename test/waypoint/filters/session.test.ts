// SPDX-License-Identifier: Apache-2.0
// Sessions: what a client is given, and what is believed of what it brings.

import t from 'tap'
import type { HttpSession } from '../../../mesh/model/http-routes.ts'
import { SessionFilter } from '../../../waypoint/filters/session.ts'
import { openToken, sealToken } from '../../../waypoint/filters/session-token.ts'
import { sampleFields } from '../router/samples.ts'

const KEY = Buffer.alloc(32, 7)
const BACKEND = { service: 'shop/v1', port: 80 }
const ENDPOINT = '10.244.1.1:8080'
const HOUR_MS = 3_600_000
const SESSION: HttpSession = {
  kind: 'cookie',
  name: 'stay',
  absoluteMs: 0,
  idleMs: 0,
  isPermanent: false,
  key: KEY.toString('base64url'),
}

/** A rule's sessions, with a clock in the test's hands. */
function sessions(more: Partial<HttpSession> = {}) {
  const clock = { ms: 1_000_000_000 }
  const filter = new SessionFilter({ ...SESSION, ...more }, () => clock.ms)
  const asked = (...headers: (readonly [string, string])[]) => filter.of(sampleFields(headers))
  /** The line that the answer of an endpoint has on top; undefined: none. */
  const told = (session: ReturnType<typeof asked>, endpoint = ENDPOINT): string | undefined =>
    session.editsFor(BACKEND, endpoint, undefined)?.lines.toString()
  /** As a browser sends back what it was told. */
  const again = (line = ''): readonly [string, string] => {
    const [, name = '', value = ''] = /^(?:set-cookie: )?([^=:]+)(?:=|: )([^;\r]+)/.exec(line) ?? []
    return name === 'stay' ? ['cookie', `a=b; stay=${value}`] : [name, value]
  }
  return { clock, asked, told, again }
}

void t.test('who brings nothing is told how to come back, and then nothing more', (t) => {
  const { asked, told, again } = sessions()
  const first = asked()
  t.equal(first.token, undefined)
  const line = told(first)
  t.match(line, /^set-cookie: stay=[\w-]+; Path=\/; HttpOnly\r\n$/)
  // Signs that its own alphabet lacks, and what it is when read: the rest of it is as good as random.
  const [, value = ''] = /stay=([\w-]+)/.exec(line ?? '') ?? []
  for (const text of [line ?? '', Buffer.from(value, 'base64url').toString('latin1')])
    t.notMatch(text, /10\.244|shop\/v1/, 'a client learns nothing by it')
  const second = asked(again(line))
  t.match(second.token, { service: 'shop/v1', port: 80, endpoint: ENDPOINT })
  t.equal(told(second), undefined)
  t.end()
})

void t.test('an endpoint that takes the place of another is told', (t) => {
  const { asked, told, again } = sessions()
  const moved = told(asked(again(told(asked()))), '10.244.1.2:8080')
  t.match(asked(again(moved)).token, { endpoint: '10.244.1.2:8080' })
  t.end()
})

void t.test('a header does it as well', (t) => {
  const { asked, told, again } = sessions({ kind: 'header', name: 'x-stay' })
  const line = told(asked())
  t.match(line, /^x-stay: [\w-]+\r\n$/)
  t.match(asked(again(line)).token, { endpoint: ENDPOINT })
  t.end()
})

void t.test('what is changed of an answer anyway stays', (t) => {
  const { asked } = sessions()
  const edits = {
    dropped: [],
    added: [{ name: 'x-a', value: 'b' }],
    lines: Buffer.from('x-a: b\r\n'),
  }
  const both = asked().editsFor(BACKEND, ENDPOINT, edits)
  t.match(both?.lines.toString(), /^x-a: b\r\nset-cookie: stay=/)
  t.match(both?.added, [{ name: 'x-a' }, { name: 'set-cookie', value: /^stay=/ }])
  t.end()
})

void t.test('what was made up, changed, or sealed by another rule is as nothing', (t) => {
  const { asked, told, again } = sessions()
  const [, cookie] = again(told(asked()))
  const sealed = cookie.slice('a=b; stay='.length)
  const changed = `${sealed.slice(0, 20)}${sealed[20] === 'A' ? 'B' : 'A'}${sealed.slice(21)}`
  const foreign = sealToken(Buffer.alloc(32, 8), {
    ...BACKEND,
    endpoint: ENDPOINT,
    begunAt: 1_000_000,
    usedAt: 1_000_000,
  })
  for (const odd of [
    ...['', 'x', changed, foreign, sealed.slice(2), `${sealed}AAAA`],
    'A'.repeat(5_000),
    '\u00ff\u0000%%%',
  ]) {
    const session = asked(['cookie', `stay=${odd}`])
    t.equal(session.token, undefined, JSON.stringify(odd.slice(0, 40)))
    t.match(told(session), /^set-cookie: /, 'and a new one is given')
  }
  t.ok(openToken(KEY, sealed))
  t.end()
})

void t.test('a session ends when it has lasted as long as it may, used or not', (t) => {
  const { clock, asked, told, again } = sessions({ absoluteMs: HOUR_MS })
  const cookie = again(told(asked()))
  clock.ms += HOUR_MS - 1_000
  t.ok(asked(cookie).token)
  clock.ms += 1_000
  t.equal(asked(cookie).token, undefined)
  t.end()
})

void t.test('one that is not used ends, and one that is used goes on', (t) => {
  const { clock, asked, told, again } = sessions({ idleMs: HOUR_MS })
  const cookie = again(told(asked()))
  clock.ms += HOUR_MS / 20
  t.equal(told(asked(cookie)), undefined, 'it is not renewed with every answer')
  clock.ms += HOUR_MS / 2
  const renewed = told(asked(cookie))
  t.ok(renewed)
  clock.ms += HOUR_MS / 2
  t.equal(asked(cookie).token, undefined)
  t.ok(asked(again(renewed)).token)
  t.end()
})

void t.test('renewed or not, it ends at its end, and a browser is told when', (t) => {
  const { clock, asked, told, again } = sessions({
    idleMs: HOUR_MS,
    absoluteMs: 2 * HOUR_MS,
    isPermanent: true,
  })
  const first = told(asked())
  t.match(first, /; Max-Age=7200\r\n$/)
  clock.ms += HOUR_MS / 2
  const renewed = told(asked(again(first)))
  t.match(renewed, /; Max-Age=5400\r\n$/)
  t.end()
})

void t.test('of several cookies the first of the name counts, in whatever field', (t) => {
  const { asked, told, again } = sessions()
  const [, cookie] = again(told(asked()))
  t.ok(asked(['cookie', 'stays=x'], ['cookie', cookie]).token)
  t.equal(asked(['cookie', 'stay=bad'], ['cookie', cookie]).token, undefined)
  t.end()
})
