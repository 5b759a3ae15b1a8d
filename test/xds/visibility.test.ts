// SPDX-License-Identifier: Apache-2.0
// Who sees what over discovery, and following one type, some names, or everything.

import { status } from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { err, ok } from '../../mesh/result.ts'
import { XdsClient } from '../../mesh/xds/client.ts'
import { nodeMessage } from '../../mesh/xds/node.ts'
import type { ResourceType } from '../../mesh/xds/resource-type.ts'
import type { XdsCaller } from '../../mesh/xds/server.ts'
import { type FollowedType, Subscription } from '../../mesh/xds/subscription.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { ip, sampleWorkload } from '../model/samples.ts'
import { Waiter } from '../support/waiter.ts'
import { makeFiles, makePki, NODE, silent, startServer, workloadResource } from './support.ts'

const pki = await makePki()

/** A type of texts, named by themselves. */
const textType = (typeUrl: string): ResourceType<string> => ({
  typeUrl,
  name: (value) => value,
  aliases: () => [],
  encode: (value) => Buffer.from(value),
  decode: (_name, bytes) => ok(Buffer.from(bytes).toString()),
})

const PUBLIC = textType('type.test/public')
const SECRET = textType('type.test/secret')
const UNKNOWN = textType('type.test/unknown')

const isTrusted = ({ name }: XdsCaller): boolean => name === 'trusted'

/** A server that lets in whoever gives a name. */
async function startNamed(test: Test) {
  const server = await startServer(pki, 0, {
    authenticate: async (metadata) => {
      const name = String(metadata.get('authorization')[0] ?? '').replace('Bearer ', '')
      return name === '' ? err({ code: status.UNAUTHENTICATED, message: 'no name' }) : ok({ name })
    },
  })
  test.teardown(server.stop)
  const everyone = server.xds.offer(PUBLIC, () => true)
  const trusted = server.xds.offer(SECRET, isTrusted)
  for (const offer of [everyone, trusted, server.addresses]) offer.complete()
  return { server, everyone, trusted }
}

async function startClient(
  test: Test,
  port: number,
  token: string,
  subscriptions: readonly FollowedType[],
): Promise<XdsClient> {
  const files = await makeFiles(pki.rootPem, token)
  const client = new XdsClient({
    address: `127.0.0.1:${port}`,
    roots: files.rootFile,
    tokenFile: files.tokenFile,
    node: NODE,
    logger: silent,
    subscriptions,
  })
  test.teardown(async () => {
    await client.stop()
    await files.remove()
  })
  client.start()
  return client
}

/** Follows a type and notes what it hears. */
function listen(type: ResourceType<string>, names: '*' | readonly string[] = '*') {
  const heard: string[] = []
  const waiter = new Waiter()
  const subscription = new Subscription(type, names, (resources, removed) => {
    heard.push(...resources.map((each) => `+${each}`), ...removed.map((name) => `-${name}`))
    waiter.poke()
  })
  const until = (text: string): Promise<void> =>
    waiter.until(
      () => heard.includes(text),
      () => `${text}; heard: ${heard.join(' ')}`,
    )
  return { heard, subscription, until }
}

void t.test(
  'a caller sees only what is visible to it; the rest is as if it were not',
  async (t) => {
    const { server, everyone, trusted } = await startNamed(t)
    everyone.update(['news'], [])
    trusted.update(['keys'], [])
    const stranger = { open: listen(PUBLIC), hidden: listen(SECRET), none: listen(UNKNOWN) }
    const friend = { open: listen(PUBLIC), hidden: listen(SECRET) }
    const follow = (ears: Readonly<Record<string, { readonly subscription: FollowedType }>>) =>
      Object.values(ears).map(({ subscription }) => subscription)
    // The hidden type is asked for before the open one: an answer to it would have come first.
    const { open, hidden, none } = stranger
    const client = await startClient(t, server.port, 'stranger', follow({ hidden, none, open }))
    await startClient(t, server.port, 'trusted', follow(friend))
    await Promise.all([
      open.until('+news'),
      friend.open.until('+news'),
      friend.hidden.until('+keys'),
    ])
    trusted.update(['more keys'], ['keys'])
    await friend.hidden.until('+more keys')
    everyone.update(['more news'], [])
    await open.until('+more news')
    t.strictSame(open.heard, ['+news', '+more news'])
    t.strictSame(hidden.heard, [])
    t.strictSame(none.heard, [])
    t.notOk(hidden.subscription.isSynced)
    t.notOk(client.isSynced, 'what is never answered is never in step')
  },
)

void t.test(
  'of a type that is shared out each sees his own, in time, and hears of nothing else',
  async (t) => {
    const server = await startServer(pki, 0, {
      authenticate: async (metadata) => ok({ name: String(metadata.get('authorization')[0]) }),
    })
    t.teardown(server.stop)
    const owners = new Map([
      ['a', 'Bearer one'],
      ['b', 'Bearer two'],
      ['c', 'Bearer nobody'],
    ])
    const shared = server.xds.offer(SECRET, () => true, {
      namedBy: PUBLIC,
      sees: ({ name }, resource) => owners.get(resource) === name,
      onProgress: () => undefined,
    })
    const everyone = server.xds.offer(PUBLIC, () => true)
    shared.update(['a', 'b', 'c'], [])
    everyone.update(['start'], [])
    for (const offer of [shared, everyone, server.addresses]) offer.complete()

    const start = async (token: string, names: '*' | readonly string[] = '*') => {
      const heard: string[] = []
      const waiter = new Waiter()
      const hear = (resources: readonly string[], removed: readonly string[]): void => {
        heard.push(...resources.map((each) => `+${each}`), ...removed.map((each) => `-${each}`))
        waiter.poke()
      }
      await startClient(t, server.port, token, [
        new Subscription(SECRET, names, hear),
        new Subscription(PUBLIC, '*', hear),
      ])
      const until = (text: string): Promise<void> =>
        waiter.until(
          () => heard.includes(text),
          () => `${text}; heard: ${heard.join(' ')}`,
        )
      await until('+start')
      return { heard, until }
    }
    const [one, two, asker] = await Promise.all([
      start('one'),
      start('two'),
      start('one', ['b', 'none']),
    ])
    t.strictSame(one.heard, ['+a', '+start'], 'what is named comes first')
    t.strictSame(two.heard, ['+b', '+start'])
    t.strictSame(
      asker.heard.toSorted(),
      ['+start', '-b', '-none'],
      'one that is hidden is to him as one that is not',
    )

    owners.set('a', 'Bearer two')
    shared.look(['a', 'unknown'])
    everyone.update(['moved'], [])
    await Promise.all([one, two].map(({ until }) => until('+moved')))
    await one.until('-a')
    t.strictSame(one.heard.slice(2), ['+moved', '-a'], 'it goes when nothing names it any more')
    t.strictSame(two.heard.slice(2), ['+a', '+moved'], 'it comes before what names it')

    shared.update([], ['b', 'c'])
    await two.until('-b')
    everyone.update(['end'], [])
    await Promise.all([one, two, asker].map(({ until }) => until('+end')))
    t.strictSame(one.heard.slice(4), ['+end'], 'who never had them hears of no end')
    t.strictSame(two.heard.slice(4), ['-b', '+end'])
    t.notOk(
      asker.heard.some((each) => /[ac]$/.test(each)),
      'nor does who asked for others',
    )
  },
)

void t.test('each type is in step by itself', async (t) => {
  const { server, everyone } = await startNamed(t)
  const late = server.xds.offer(UNKNOWN, () => true)
  const [open, slow] = [listen(PUBLIC), listen(UNKNOWN)]
  everyone.update(['news'], [])
  const client = await startClient(t, server.port, 'any', [slow.subscription, open.subscription])
  await open.subscription.synced
  t.ok(open.subscription.isSynced)
  t.notOk(slow.subscription.isSynced)
  t.notOk(client.isSynced)
  late.complete()
  await slow.subscription.synced
  t.ok(client.isSynced)
})

void t.test('who asks for names hears of those and no others', async (t) => {
  const { server, everyone } = await startNamed(t)
  everyone.update(['one', 'two'], [])
  const some = listen(PUBLIC, ['two', 'three'])
  await startClient(t, server.port, 'any', [some.subscription])
  await some.until('-three')
  t.ok(some.heard.includes('+two'), 'what is not there was said to be gone')
  everyone.update(['one', 'three'], ['one'])
  await some.until('+three')
  everyone.update([], ['two'])
  await some.until('-two')
  t.strictSame(
    some.heard.filter((each) => each.endsWith('one')),
    [],
  )
})

void t.test('a workload is found by its address, too', async (t) => {
  const { server } = await startNamed(t)
  const workload = sampleWorkload('frontend')
  server.addresses.update([workloadResource(workload)], [])
  const names: string[] = []
  const subscription = new Subscription(ADDRESS, ['/10.244.0.1'], (resources) => {
    names.push(...resources.map(ADDRESS.name))
  })
  await startClient(t, server.port, 'any', [subscription])
  await subscription.synced
  t.strictSame(names, [workload.uid])
})

void t.test('who found a workload by an address it has left hears of its end', async (t) => {
  const { server } = await startNamed(t)
  const at = (address: string) =>
    workloadResource(sampleWorkload('frontend', { addresses: [ip(address)] }))
  server.addresses.update([at('10.244.0.1')], [])
  const waiter = new Waiter()
  const gone: string[] = []
  const subscription = new Subscription(ADDRESS, ['/10.244.0.1'], (_resources, removed) => {
    gone.push(...removed)
    waiter.poke()
  })
  await startClient(t, server.port, 'any', [subscription])
  await subscription.synced
  // Both within one push.
  server.addresses.update([at('10.244.0.2')], [])
  server.addresses.update([], [at('10.244.0.2').name])
  await waiter.until(() => gone.length > 0)
  t.strictSame(gone, [at('10.244.0.1').name])
})

void t.test('to ask for no names would be to ask for all', async (t) => {
  t.throws(() => new Subscription(PUBLIC, [], () => undefined), /no names are given/)
})

void t.test('a proxy says what it is', async (t) => {
  t.match(nodeMessage(NODE).id, /^ztunnel~10\.244\.0\.9~ambit-agent-x\.ambit-system~/)
  t.match(nodeMessage({ ...NODE, role: 'waypoint' }).id, /^waypoint~/)
})
