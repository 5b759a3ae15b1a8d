// SPDX-License-Identifier: Apache-2.0
// A pod that leaves the mesh, in the kernel: nothing of it is captured from then on, its port 15008 is the agent's as
// long as peers may not have heard of it, and in the end the namespace is as it was.

import t from 'tap'
import { missing } from '../helpers.ts'
import { until } from '../support/until.ts'
import { ADDRESS, type App, World } from './support/world.ts'

const skip = missing('root', 'cgroup2')
const HBONE = 15_008
const PORT = 8080
const OUTSIDE = { address: ADDRESS.remoteV4, port: 7070 } as const
const DIRECT = `app saw ${ADDRESS.aV4} at ${ADDRESS.remoteV4}`

/** What a caller outside of the pod meets, by address and port. */
async function calls(caller: App, port: number): Promise<readonly (string | undefined)[]> {
  const answers: (string | undefined)[] = []
  for (const address of [ADDRESS.aV4, ADDRESS.aV6]) {
    const { received, error } = await caller.connect({ address, port })
    answers.push(error ?? /^\w+/.exec(received ?? '')?.[0])
  }
  return answers
}

void t.test('a pod leaves the mesh and lives on', { skip }, async (t) => {
  const world = new World(t)
  const outside = world.app('remote')
  const neighbour = world.app('b')
  await outside.serve('0.0.0.0', OUTSIDE.port)
  const inPod = world.app('a')
  for (const address of ['0.0.0.0', '::']) await inPod.serve(address, PORT)
  const rules = (): string => world.inside('a', 'ip rule; ip -6 rule; ip route show table all')
  // It gets its route when duplicate address detection ends, a second or two after the pod begins.
  await until(() => /^local fe80:\S+ dev eth0/m.test(rules()), 'the link-local address')
  const before = rules()
  const agent = await world.openAgent()

  await t.test(
    'what calls it reaches the app, except by HBONE; what it calls is its own',
    async (t) => {
      await agent.enrol(world.pod('a'))
      t.strictSame(await calls(outside, PORT), ['plaintext', 'plaintext'])
      t.match(await agent.leave(world.pod('a')), { listeners: 2 })
      for (const [name, caller] of Object.entries({ outside, neighbour })) {
        t.strictSame(await calls(caller, PORT), ['app', 'app'], name)
        t.strictSame(await calls(caller, HBONE), ['hbone', 'hbone'], name)
        for (const port of [15_001, 15_006])
          t.strictSame(
            await calls(caller, port),
            ['ECONNREFUSED', 'ECONNREFUSED'],
            `${name} ${port}`,
          )
      }
      t.equal((await inPod.connect(OUTSIDE)).received, DIRECT)
      t.match(await agent.stats(), { enrolledPods: 0, listeners: 0 })
    },
  )

  await t.test('the agent reaches its app as the client, and the app answers', async (t) => {
    const from = { sourceIp: ADDRESS.remoteV4, address: ADDRESS.aV4, port: PORT }
    const told = await agent.process.ask('upstream', { uid: 'uid-a', ...from })
    t.match(told, `app saw ${ADDRESS.remoteV4}`)
  })

  await t.test('captured again, and left again, it is as before each time', async (t) => {
    for (let round = 0; round < 5; round += 1) {
      await agent.enrol(world.pod('a'))
      t.strictSame(await calls(outside, PORT), ['plaintext', 'plaintext'])
      t.strictSame(await calls(outside, HBONE), ['hbone', 'hbone'])
      await agent.leave(world.pod('a'))
      t.strictSame(await calls(outside, PORT), ['app', 'app'])
      t.strictSame(await calls(outside, HBONE), ['hbone', 'hbone'])
    }
  })

  await t.test('no call fails while it comes and goes', async (t) => {
    let isOver = false
    const errors: string[] = []
    const ask = async (caller: App, port: number): Promise<number> => {
      let count = 0
      for (; !isOver || count < 20; count += 1) {
        const { error, received } = await caller.connect({ address: ADDRESS.aV4, port })
        if (error !== undefined || received === '') errors.push(`${port}: ${error ?? 'nothing'}`)
      }
      return count
    }
    const asking = [ask(outside, HBONE), ask(neighbour, HBONE)]
    for (let round = 0; round < 20; round += 1) {
      await agent.enrol(world.pod('a'))
      await agent.leave(world.pod('a'))
    }
    isOver = true
    t.comment(`${(await Promise.all(asking)).join(' and ')} calls`)
    t.strictSame(errors, [])
  })

  await t.test('the next agent serves it on', async (t) => {
    await agent.process.stop('SIGKILL')
    t.strictSame(await calls(outside, PORT), ['app', 'app'], 'nothing but HBONE was the agent’s')
    t.strictSame(await calls(outside, HBONE), ['ECONNREFUSED', 'ECONNREFUSED'])
    const next = await world.openAgent()
    await next.leave(world.pod('a'))
    t.strictSame(await calls(outside, HBONE), ['hbone', 'hbone'])
    await next.withdraw('uid-a')
    await next.process.ask('carried', 'uid-a')
    t.strictSame(await calls(outside, HBONE), ['ECONNREFUSED', 'ECONNREFUSED'])
    await until(
      () => rules() === before,
      () => `rules and routes as before, ${before}, not ${rules()}`,
    )
  })
})
