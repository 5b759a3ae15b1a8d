// SPDX-License-Identifier: Apache-2.0
// Bytes that are nearly right, by either version of HTTP: whatever they are, the app hears of the requests that were routed and of no
// others (Node's server reads what was written to it), and nothing is left when the client is gone. The corpus is odd-requests.ts: what
// fuzzing finds goes there.

import { METHODS } from 'node:http'
import { setImmediate as eventLoopTurn } from 'node:timers/promises'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { FLAG, FRAME, PREFACE } from '../../mesh/http2/protocol.ts'
import { serveHttp2 } from '../../waypoint/exchange/serve-http2.ts'
import { frame, headers } from '../hbone/raw-peer.ts'
import { until } from '../support/until.ts'
import { answerAll, makeWorld, OK, type World } from './harness.ts'
import { readByNode } from './node-app.ts'
import { ODD_CASES } from './odd-requests.ts'

/** Enough to find what is easily found in each run; the seeds differ from run to run. */
const HOW = { numRuns: 250, interruptAfterTimeLimit: 10_000 }
/** Longer ones are long in one way, and slow. */
const CORPUS = ODD_CASES.map(({ bytes }) => bytes).filter(({ length }) => length < 1_000)

/** What the apps heard is what was routed to them, and a connection that is kept has nothing else in it. */
async function checkHeard(t: Test, world: World): Promise<void> {
  // Node knows no other methods.
  if (!world.heads.every(({ method }) => METHODS.includes(method))) return
  const read = await Promise.all(
    world.apps.map(async (app) => {
      const isIdle = world.idle.some((one) => one === app.sink)
      const { heard, isWhole } = await readByNode(app.take())
      return { heard, isRight: !isIdle || (isWhole && heard.length > 0) }
    }),
  )
  const heard = read.flatMap((each) => each.heard)
  const routed = world.heads.map(({ method, target }) => `${method} ${target}`)
  t.ok(
    isPart(
      heard.map((each) => each.split(' ', 2).join(' ')),
      routed,
    ),
    'what was routed, and no other',
  )
  t.ok(
    read.every(({ isRight }) => isRight),
    'a connection that is kept carried requests, and nothing else',
  )
}

/** Whether all of the first are in the second, each as often. */
function isPart(some: readonly string[], all: readonly string[]): boolean {
  const left = [...all]
  return some.every((one) => {
    const at = left.indexOf(one)
    if (at >= 0) left.splice(at, 1)
    return at >= 0
  })
}

async function checkGone(t: Test, world: World): Promise<void> {
  if (world.client.resetBy === undefined && world.closed === 0)
    world.client.sink.broken('clientReset')
  await until(() => world.closed === 1, 'the connection to be given up')
  world.pass(10_000)
  t.equal(world.deadlines.size, 0)
  t.equal(world.records.length >= world.heads.length, true, 'each request was told of')
  for (const app of world.apps)
    t.ok(world.idle.length > 0 || app.resetBy !== undefined || app.hasEnded)
}

const octet = fc.constantFrom(...'\0\t\n\r "#+,-/0159:;=@ACFGHTachk\x7f\xff\x0b\x0c')
/** One change of a text: at a place between 0 and 1. */
const change = fc.oneof(
  fc.tuple(fc.constant('set'), fc.double({ min: 0, max: 1, noNaN: true }), octet),
  fc.tuple(fc.constant('insert'), fc.double({ min: 0, max: 1, noNaN: true }), octet),
  fc.tuple(fc.constant('delete'), fc.double({ min: 0, max: 1, noNaN: true }), fc.constant('')),
  fc.tuple(
    fc.constant('splice'),
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.constantFrom(...CORPUS),
  ),
)

function changed(text: string, changes: readonly (readonly [string, number, string])[]): string {
  let now = text
  for (const [how, part, given] of changes) {
    const at = Math.floor(part * now.length)
    const rest = now.slice(at)
    if (how === 'splice') now = now.slice(0, at) + given.slice(Math.floor(part * given.length))
    else now = now.slice(0, at) + given + (how === 'insert' ? rest : rest.slice(1))
  }
  return now
}

void t.test('HTTP/1.1: what is nearly a request hides no other', async (t) => {
  const script = fc.tuple(
    fc.constantFrom(...CORPUS),
    fc.array(change, { minLength: 1, maxLength: 4 }),
  )
  await fc.assert(
    fc.asyncProperty(script, async ([seed, changes]) => {
      const world = makeWorld()
      world.client.send(changed(seed, changes))
      answerAll(world)
      await checkHeard(t, world)
      await checkGone(t, world)
    }),
    HOW,
  )
})

const NAMES = [
  'x',
  'host',
  'X-A',
  'te',
  'cookie',
  'connection',
  'expect',
  'transfer-encoding',
  ':path',
]
const VALUES = [
  '1',
  '',
  'trailers',
  'chunked',
  'a\r\nx: y',
  ' h',
  'other',
  '100-continue',
  '\0',
  '\xfc',
]
const PSEUDO = ['GET', 'POST', 'HEAD', 'CONNECT', 'G T', 'GET / HTTP/1.1\r\n\r\nGET']
const PATHS = ['/a', '/b?c=d', '*', '', '/a b', '/a\r\nx: y', '//x', 'http://h/', '/\xfc']
const LENGTHS = [undefined, '0', '5', '5, 5', '+5', '99999999999999999999']

const fieldList = fc
  .tuple(
    fc.constantFrom(...PSEUDO),
    fc.constantFrom(...PATHS),
    fc.constantFrom('h', 'h:80', '', 'a@h', 'h\r\nx: y'),
    fc.constantFrom(...LENGTHS),
    fc.array(fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom(...VALUES)), { maxLength: 3 }),
  )
  .map(([method, path, authority, length, more]): (readonly [string, string])[] => [
    [':method', method],
    [':scheme', 'http'],
    [':path', path],
    [':authority', authority],
    ...(length === undefined ? [] : [['content-length', length] as const]),
    ...more,
  ])
const GOOD: (readonly [string, string])[] = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/good'],
  [':authority', 'h'],
]
const streamId = fc.constantFrom(1, 3, 5, 7, 9, 11)
const flags = fc.constantFrom(0, FLAG.endStream, FLAG.endHeaders, FLAG.endStream | FLAG.endHeaders)
const request = fc
  .tuple(streamId, fc.oneof(fieldList, fc.constant(GOOD)), fc.constantFrom(0, FLAG.endStream))
  .map(([id, list, flag]) => headers(id, list, flag))
const data = fc
  .tuple(streamId, fc.constantFrom(0, FLAG.endStream), fc.constantFrom('hello', '', 'x'.repeat(99)))
  .map(([id, flag, text]) => frame(FRAME.data, flag, id, Buffer.from(text)))
const noise = fc
  .tuple(
    fc.integer({ min: 0, max: 10 }),
    flags,
    fc.oneof(streamId, fc.constantFrom(0, 2)),
    fc.uint8Array({ maxLength: 24 }),
  )
  .map(([type, flag, id, payload]) => frame(type, flag, id, payload))
const reset = streamId.map((id) => frame(FRAME.rstStream, 0, id, Buffer.from([0, 0, 0, 8])))
const APP: 'app' = 'app'

void t.test('HTTP/2: no frames become a request of HTTP/1.1 that was not routed', async (t) => {
  const step = fc.oneof(
    { weight: 4, arbitrary: request },
    { weight: 4, arbitrary: data },
    { weight: 2, arbitrary: fc.constant(APP) },
    { weight: 1, arbitrary: noise },
    { weight: 1, arbitrary: reset },
  )
  const script = fc.tuple(fc.array(step, { maxLength: 20 }), fc.boolean())
  await fc.assert(
    fc.asyncProperty(script, async ([steps, isCut]) => {
      const memory = new HeldMemory(1024 * 1024)
      const world = makeWorld({
        serve: (pipe, context) => serveHttp2(pipe, context, { memory, accounts: {} }),
      })
      const send = (bytes: Buffer): void => {
        if (world.client.resetBy !== undefined || world.closed > 0) return
        if (isCut) for (const each of bytes) world.client.send(Buffer.from([each]))
        else world.client.send(bytes)
      }
      world.client.send(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0)]))
      for (const each of steps) {
        const app = world.apps.at(-1)
        if (each !== APP) send(each)
        else if (app !== undefined && app.resetBy === undefined) app.send(OK)
        await eventLoopTurn()
      }
      await checkHeard(t, world)
      await checkGone(t, world)
      t.equal(memory.total, 0, 'nothing is left on the account')
    }),
    HOW,
  )
})
