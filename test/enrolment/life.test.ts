// SPDX-License-Identifier: Apache-2.0
// A pod's life as a model: whatever comes in whatever order, over a capture and a data plane that fail and dawdle, the
// end is "captured and served" or "plain", the state file says so, and no listener is left open.

import t from 'tap'
import fc from 'fast-check'
import { readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { pino } from 'pino'
import { DEFAULT_ELIGIBILITY } from '../../agent/enrolment/eligibility.ts'
import type { Fact, PodNetwork } from '../../agent/enrolment/facts.ts'
import { isSameNetns, netnsAt } from '../../agent/enrolment/netns-identity.ts'
import { PodEnrolment } from '../../agent/enrolment/pod-enrolment.ts'
import type { PodState } from '../../agent/enrolment/state-files.ts'
import type { Pod } from '../../mesh/kube/index.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { FINE, LifeWorld, type Weather } from './life-world.ts'
import { AMBIENT } from './node-setting.ts'

type Event =
  | { readonly kind: 'weather'; readonly weather: Weather }
  | { readonly kind: 'label'; readonly isLabelled: boolean }
  | { readonly kind: 'object'; readonly isDeleting: boolean }
  | { readonly kind: 'sandbox' | 'sandboxGone'; readonly sandbox: 'first' | 'second' }
  | { readonly kind: 'workerDies' | 'uninstalled' | 'deleted' | 'superseded' }
  | { readonly kind: 'pause'; readonly turns: number }

const pick = <T>(...values: readonly T[]) => fc.constantFrom(...values)

const weather: fc.Arbitrary<Weather> = fc.record({
  turns: fc.integer({ min: 0, max: 4 }),
  capture: pick('works', 'works', 'works', 'refuses', 'cannotWithdraw', 'mistaken', 'astray'),
  workers: pick('work', 'work', 'refuse', 'die', 'dieAfter'),
})
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 3, arbitrary: weather.map((weather) => ({ kind: 'weather' as const, weather })) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('label'), isLabelled: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('object'), isDeleting: fc.boolean() }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: pick('sandbox', 'sandbox', 'sandboxGone'),
      sandbox: pick('first', 'second'),
    }),
  },
  { weight: 4, arbitrary: fc.constant({ kind: 'workerDies' as const }) },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('pause'), turns: fc.integer({ min: 1, max: 12 }) }),
  },
) as fc.Arbitrary<Event>

/** Most lives begin as most pods do, and few end before the list does: else little is ever captured. */
const life: fc.Arbitrary<readonly Event[]> = fc
  .tuple(
    pick<readonly Event[]>(
      [],
      [
        { kind: 'label', isLabelled: true },
        { kind: 'sandbox', sandbox: 'first' },
      ],
    ),
    fc.array(event, { maxLength: 40 }),
    pick<readonly Event[]>([], [], [], [{ kind: 'deleted' }], [{ kind: 'uninstalled' }]),
    fc.array(event, { maxLength: 4 }),
  )
  .map((parts) => parts.flat())

const object = (isDeleting: boolean): Pod => ({
  metadata: {
    namespace: 'shop',
    name: 'web',
    uid: 'u-1',
    ...(isDeleting && { deletionTimestamp: '2026-01-01T00:00:00Z' }),
  },
  spec: { containers: [] },
})

interface Life {
  readonly world: LifeWorld
  readonly pod: PodEnrolment
  /** The state file; undefined when there is none. */
  readonly file: () => PodState | undefined
  readonly happens: (event: Event) => Promise<void>
}

function begin(
  networks: Readonly<Record<'first' | 'second', PodNetwork>>,
  failOpen: boolean,
): Life {
  const world = new LifeWorld(failOpen)
  let file: PodState | undefined
  let isSuperseded = false
  const pod = new PodEnrolment(
    { uid: 'u-1', namespace: 'shop', name: 'web', serviceAccount: 'web' },
    {
      capture: world,
      server: world,
      states: {
        save: async (state) => {
          await turn()
          if (isSuperseded) return false
          file = state
          return true
        },
        remove: async () => {
          await turn()
          if (isSuperseded) return false
          file = undefined
          return true
        },
      },
      locate: async (_, { network }) => {
        await turn()
        if (network !== undefined) return { ok: true, network, facts: [] }
        return { ok: false, outcome: { kind: 'waiting', reason: 'no sandbox' }, facts: [] }
      },
      ownership: { holds: () => Promise.resolve(!isSuperseded) },
      rules: DEFAULT_ELIGIBILITY,
      failOpen,
      peersForgetMs: 3_600_000,
      logger: pino({ level: 'silent' }),
      settled: () => undefined,
    },
  )
  const tell = (fact: Fact): void => void pod.observe(fact)
  return {
    world,
    pod,
    file: () => file,
    async happens(event) {
      switch (event.kind) {
        case 'weather':
          world.weather = event.weather
          return
        case 'label':
          return tell({ kind: 'namespaceLabels', labels: event.isLabelled ? AMBIENT : {} })
        case 'object':
          return tell({ kind: 'object', object: object(event.isDeleting) })
        case 'sandbox':
          return tell({ kind: 'sandbox', object: object(false), network: networks[event.sandbox] })
        case 'sandboxGone':
          return tell({ kind: 'sandboxGone', containerId: event.sandbox })
        case 'workerDies':
          return world.killWorker()
        case 'superseded':
          isSuperseded = true
          return
        case 'deleted':
        case 'uninstalled':
          return tell({ kind: event.kind })
        case 'pause':
          for (let left = event.turns; left > 0; left -= 1) await turn()
      }
    },
  }
}

/** Asks for a look and changes nothing. */
const NOTHING_NEW: Fact = { kind: 'networkGone', identity: { device: -1, inode: -1 } }

const openFds = (): number => readdirSync('/proc/self/fd').length

void t.test('a pod ends captured and served, or plain', async (t) => {
  const directory = t.testdir({})
  const at = async (containerId: 'first' | 'second'): Promise<PodNetwork> => {
    const netnsPath = path.join(directory, containerId)
    await writeFile(netnsPath, '')
    const identity = await netnsAt(netnsPath)
    if (identity === undefined) throw new Error('the file was just written')
    return { netnsPath, identity, addresses: ['10.244.1.7' as IpAddress], containerId }
  }
  const networks = { first: await at('first'), second: await at('second') }

  await t.test('when all works again', async (t) => {
    const before = openFds()
    const reached = new Set<string>()
    await fc.assert(
      fc.asyncProperty(life, fc.boolean(), async (events, open) => {
        const { world, pod, file, happens } = begin(networks, open)
        for (const each of events) await happens(each)
        world.weather = FINE
        // Whatever fails is tried again by a timer; the model does not wait for it.
        const outcome = await pod.observe(NOTHING_NEW)
        if (world.violations.length > 0) throw new Error(world.violations.join())
        const { captured, isServed } = world
        reached.add(outcome.kind)
        if (outcome.kind === 'failed') throw outcome.error
        if (outcome.kind === 'enrolled' && !isServed) throw new Error('said to be enrolled')
        if (outcome.kind === 'plain' && captured !== undefined) throw new Error('said to be plain')
        if ((captured !== undefined) !== isServed)
          throw new Error(isServed ? 'served and not captured' : 'captured and not served')
        if (isServed && world.left !== undefined) throw new Error('captured and left')
        if ((world.left !== undefined) !== world.isLeftServed)
          throw new Error('left and not served')
        if ((world.served !== undefined) !== (isServed || world.isLeftServed))
          throw new Error('half served')
        if (world.isLeftServed) reached.add('left')
        if ((file()?.leftAt !== undefined) !== world.isLeftServed)
          throw new Error('the file does not know whether it left')
        if (pod.isEnrolled !== isServed) throw new Error('counted wrongly')
        if ((file()?.isEnrolled ?? false) !== isServed) throw new Error('the file says otherwise')
        const { desired } = pod
        if (captured !== undefined && desired.kind === 'captured' && desired.netns !== undefined) {
          const { identity } = Object.values(networks).find(
            ({ netnsPath }) => netnsPath === captured.path,
          ) ?? { identity: undefined }
          if (!isSameNetns(identity, desired.netns)) throw new Error('captured elsewhere')
        }
        await pod.close()
        world.killWorker()
        await world.close()
        await world.settled()
      }),
      { numRuns: 1500 },
    )
    t.same([...reached].sort(), ['enrolled', 'left', 'plain', 'waiting'], 'all ends are met')
    t.equal(openFds(), before, 'no listener and no namespace is left open')
  })

  await t.test('and is left as the next agent can take it up, closed at any time', async (t) => {
    const before = openFds()
    await fc.assert(
      fc.asyncProperty(life, async (events) => {
        const { world, pod, file, happens } = begin(networks, false)
        for (const each of events) await happens(each)
        await pod.close()
        if (world.violations.length > 0) throw new Error(world.violations.join())
        const then = { captured: world.captured, served: world.served }
        if (world.isServed && !pod.isEnrolled) throw new Error('served and forgotten')
        // Where the data plane took nothing new and the kernel kept what there was, its listeners are older ones.
        const isPlain = world.captured === undefined && world.left === undefined
        if (then.served?.listeners !== undefined && isPlain) throw new Error('served and plain')
        const isInMind = file()?.leftAt !== undefined || file()?.isEnrolled === true
        if (world.left !== undefined && !isInMind)
          throw new Error('left, and the next agent does not know')
        if (then.captured !== undefined && file()?.isEnrolled !== true)
          throw new Error('captured, and the next agent does not know')
        world.weather = FINE
        await pod.observe({ kind: 'deleted' })
        for (let turns = 0; turns < 10; turns += 1) await turn()
        if (world.captured !== then.captured || world.served !== then.served)
          throw new Error('went on after its end')
        world.killWorker()
        await world.close()
        await world.settled()
      }),
      { numRuns: 1000 },
    )
    t.equal(openFds(), before, 'no listener and no namespace is left open')
  })

  await t.test('and changes nothing more once another agent has come', async () => {
    await fc.assert(
      fc.asyncProperty(life, life, async (events, later) => {
        const { world, pod, file, happens } = begin(networks, false)
        for (const each of events) await happens(each)
        await happens({ kind: 'superseded' })
        // The step under way is brought to its end.
        await pod.observe(NOTHING_NEW)
        const then = { captured: world.captured, file: file() }
        for (const each of later) await happens(each)
        await pod.observe({ kind: 'deleted' })
        if (world.captured !== then.captured)
          throw new Error('captured or withdrawn after its time')
        if (file() !== then.file) throw new Error('wrote after its time')
        await pod.close()
        world.killWorker()
        await world.close()
        await world.settled()
      }),
      { numRuns: 500 },
    )
  })
})
