// SPDX-License-Identifier: Apache-2.0
// Connections that never finish their handshake cost whoever makes them, and nobody else.

import { once } from 'node:events'
import { type Socket, connect } from 'node:net'
import { connect as tlsConnect } from 'node:tls'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { type KnockLimits, type Knocker, Knocking, sourceKey } from '../../mesh/hbone/knocking.ts'
import { clientTlsOptions } from './certs.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { type World, makeWorld } from './harness.ts'

const LIMITS: KnockLimits = {
  deadlineMs: 10_000,
  shortestDeadlineMs: 2_000,
  unauthenticated: 8,
  unauthenticatedPerSource: 4,
  reservedForMesh: 2,
}

/** A table that names whom it turned out. */
function table(limits = LIMITS): {
  readonly out: string[]
  readonly knocking: Knocking
  readonly add: (
    address: string,
    name: string,
    more?: { known?: boolean; bytes?: number },
  ) => number
} {
  const out: string[] = []
  const knocking = new Knocking(limits)
  return {
    out,
    knocking,
    add: (address, name, { known = false, bytes = 0 } = {}) =>
      knocking.add(address as IpAddress, known, {
        bytesRead: bytes,
        giveWay: () => out.push(name),
      }),
  }
}

void t.test('over its own bound a source pushes out its own oldest silent one', (t) => {
  const { add, out } = table()
  add('10.0.0.1', 'spoke first', { bytes: 1 })
  for (const name of ['a', 'b', 'c', 'd', 'e']) add('10.0.0.1', name)
  t.same(out, ['a', 'b'])
  add('10.0.0.2', 'other')
  t.same(out, ['a', 'b'], 'others have room')
  t.end()
})

void t.test('where all sent something, the oldest goes', (t) => {
  const { add, out } = table()
  for (const name of ['a', 'b', 'c', 'd', 'e']) add('10.0.0.1', name, { bytes: 5 })
  t.same(out, ['a'])
  t.end()
})

void t.test('when all places are taken, the source that has the most gives way', (t) => {
  const { add, out } = table()
  add('10.0.0.9', 'alone')
  for (const name of ['a', 'b', 'c']) add('10.0.0.1', name)
  for (const name of ['d', 'e']) add('10.0.0.2', name)
  t.same(out, [])
  add('10.0.0.3', 'newcomer')
  t.same(out, ['a'], 'six places are for strangers')
  t.end()
})

void t.test('a crowd of strangers leaves room for workloads of the mesh', (t) => {
  const { add, out, knocking } = table()
  for (let host = 1; host <= 6; host += 1) add(`10.0.0.${host}`, `s${host}`)
  add('10.1.0.1', 'pod 1', { known: true })
  add('10.1.0.2', 'pod 2', { known: true })
  t.same(out, [])
  add('10.1.0.3', 'pod 3', { known: true })
  t.same(out, ['s1'], 'and beyond it a stranger goes, never a workload')
  for (let host = 7; host < 30; host += 1) add(`10.0.0.${host}`, `s${host}`)
  t.equal(knocking.size, 8)
  t.notOk(out.some((name) => name.startsWith('pod')))
  t.end()
})

void t.test('the deadline shortens as the places are taken', (t) => {
  const { add } = table({ ...LIMITS, unauthenticatedPerSource: 8 })
  t.same(
    Array.from({ length: 9 }, (_, count) => add('10.1.0.1', `${count}`, { known: true })),
    [9000, 8000, 7000, 6000, 5000, 4000, 3000, 2000, 2000],
  )
  t.end()
})

void t.test(
  'strangers of one /64 are one source, workloads of the mesh are each their own',
  (t) => {
    const key = (address: string, known: boolean): string => sourceKey(address as IpAddress, known)
    t.equal(key('2001:db8:1:2::3', false), key('2001:db8:1:2:ffff::9', false))
    t.not(key('2001:db8:1:2::3', false), key('2001:db8:1:3::3', false))
    t.not(key('2001:db8:1:2::3', true), key('2001:db8:1:2::4', true))
    t.not(key('10.0.0.1', false), key('10.0.0.2', false))
    t.end()
  },
)

void t.test('in any order of coming and going the bounds hold, and a lone newcomer stays', (t) => {
  const step = fc.record({
    host: fc.integer({ min: 1, max: 12 }),
    known: fc.boolean(),
    bytes: fc.integer({ min: 0, max: 1 }),
    leaves: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const inside = new Map<Knocker, { readonly key: string; readonly known: boolean }>()
      const knocking = new Knocking(LIMITS)
      for (const { host, known, bytes, leaves } of steps) {
        const [first] = inside.keys()
        if (leaves && first !== undefined) {
          inside.delete(first)
          if (!knocking.delete(first)) throw new Error('was not there')
        }
        const address = `10.${known ? 1 : 0}.0.${host}` as IpAddress
        const stranger: Knocker = {
          bytesRead: bytes,
          giveWay() {
            if (!inside.delete(stranger)) throw new Error('turned out twice')
          },
        }
        inside.set(stranger, { key: address, known })
        knocking.add(address, known, stranger)
        if (!inside.has(stranger)) throw new Error('a newcomer was turned out')
        const all = [...inside.values()]
        const most = Math.max(...all.map(({ key }) => all.filter((one) => one.key === key).length))
        const strangers = all.filter((one) => !one.known).length
        if (knocking.size !== inside.size || inside.size > LIMITS.unauthenticated) return false
        if (most > LIMITS.unauthenticatedPerSource || strangers > 6) return false
      }
      return true
    }),
  )
  t.end()
})

/** Opens TCP connections from these addresses, so many a second, and never says a word on them. */
function halfOpen(t: Test, world: World, addresses: readonly string[], perSecond: number): void {
  let opened = 0
  const sockets = new Set<Socket>()
  const open = (): void => {
    const localAddress = addresses[opened % addresses.length] ?? ''
    opened += 1
    const socket = connect({ port: world.port, host: '127.0.0.1', localAddress })
    sockets.add(socket)
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket))
  }
  for (let count = 0; count < perSecond; count += 1) open()
  const timer = setInterval(open, 1000 / perSecond)
  t.teardown(() => {
    clearInterval(timer)
    for (const socket of sockets) socket.destroy()
  })
}

/** Shakes hands from an address; resolves with the first bytes of HTTP/2. */
async function shakesHands(t: Test, world: World, localAddress: string): Promise<number> {
  const raw = connect({ port: world.port, host: '127.0.0.1', localAddress })
  t.teardown(() => raw.destroy())
  await once(raw, 'connect')
  const socket = tlsConnect({
    ...clientTlsOptions(world.clientCertificate),
    socket: raw,
  })
  const [settings] = (await once(socket, 'data')) as [Buffer]
  return settings.length
}

await t.test('nine addresses that only send SYNs keep out nobody', async (t) => {
  const limits = { unauthenticated: 64, unauthenticatedPerSource: 16, reservedForMesh: 16 }
  const world = await makeWorld(t, {
    limits,
    isKnownSource: (address) => address.startsWith('127.0.1.'),
  })
  halfOpen(
    t,
    world,
    Array.from({ length: 9 }, (_, host) => `127.0.0.${host + 2}`),
    150,
  )
  await world.refusal((event) => /gave way to newcomers/.test(event.message))
  for (let round = 0; round < 20; round += 1) {
    t.ok(await shakesHands(t, world, `127.0.1.${round + 1}`), 'a workload of the mesh')
    t.ok(await shakesHands(t, world, `127.0.2.${round + 1}`), 'a stranger with a certificate')
  }
  const lost = world.refused.filter(({ peer }) => !peer?.address.startsWith('127.0.0.'))
  t.same(lost, [], 'only those who said nothing went')
})
