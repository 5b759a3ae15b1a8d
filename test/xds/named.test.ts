// SPDX-License-Identifier: Apache-2.0
// Resources that others name: nobody is told of a name before what it means, nor loses that before the name. And who has
// acknowledged what.

import t from 'tap'
import type { DeltaDiscoveryResponse } from '../../mesh/proto/gen/discovery_pb.js'
import { ok } from '../../mesh/result.ts'
import type { ResourceType } from '../../mesh/xds/resource-type.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { sampleWorkload } from '../model/samples.ts'
import { until } from '../support/until.ts'
import { openStream } from './bare-stream.ts'
import { makePki, startServer, workloadResource } from './support.ts'

const pki = await makePki()

const NAMED: ResourceType<readonly [string, string]> = {
  typeUrl: 'type.test/named',
  name: ([name]) => name,
  aliases: () => [],
  encode: ([, text]) => Buffer.from(text),
  decode: (name, bytes) => ok([name, Buffer.from(bytes).toString()]),
}

const naming = (...names: readonly string[]) =>
  workloadResource(sampleWorkload('w', { authorizationPolicies: names }))

/** A response in a word: what it is of, what came and what went. */
function brief({ typeUrl, resources, removedResources }: DeltaDiscoveryResponse): string {
  const type = typeUrl === NAMED.typeUrl ? 'named' : 'address'
  const came = resources.map(({ name }) => name.split('/').at(-1)).toSorted()
  return [type, ...came, ...removedResources.map((name) => `-${name}`)].join(' ')
}

async function setUp(test: Parameters<typeof openStream>[0]) {
  const server = await startServer(pki)
  test.teardown(server.stop)
  let progress = 0
  const named = server.xds.offer(NAMED, () => true, {
    namedBy: ADDRESS,
    concernsAll: ([, text]) => text === 'all',
    onProgress: () => void (progress += 1),
  })
  const stream = openStream(test, server.port, pki)
  const acknowledge = ({ typeUrl, nonce }: DeltaDiscoveryResponse, reason?: string) =>
    stream.send({
      typeUrl,
      responseNonce: nonce,
      ...(reason === undefined
        ? {}
        : {
            errorDetail: { $typeName: 'google.rpc.Status', code: 3, message: reason, details: [] },
          }),
    })
  const heard = () => stream.responses.map(brief)
  const inStep = (name: string) =>
    [...named.clients()].map(({ caller, isInStep }) => [caller.name, isInStep(name)])
  return { ...server, named, stream, acknowledge, heard, inStep, progress: () => progress }
}

void t.test('what is named comes before its name, and goes after it', async (t) => {
  const { named, addresses, stream, acknowledge, heard, inStep, progress } = await setUp(t)
  named.update([['a', '1']], [])
  addresses.update([naming('a')], [])
  named.complete()
  addresses.complete()
  stream.send({ typeUrl: NAMED.typeUrl, resourceNamesSubscribe: ['*'] })
  const first = await stream.received(1)
  stream.send({ resourceNamesSubscribe: ['*'] })
  const second = await stream.received(2)
  t.strictSame(heard(), ['named a', 'address w'])
  t.strictSame(inStep('a'), [['agent', false]], 'it is sent, and not acknowledged')

  // What it names now waits for an answer: so does the workload.
  named.update([['b', '1']], [])
  addresses.update([naming('a', 'b')], [])
  acknowledge(second)
  t.equal(progress(), 0)
  t.strictSame(inStep('b'), [['agent', false]])
  acknowledge(first)
  const [third, fourth] = [await stream.received(3), await stream.received(4)]
  t.strictSame(heard().slice(2), ['named b', 'address w'])
  t.strictSame([inStep('a'), inStep('b')], [[['agent', true]], [['agent', false]]])

  // The workload is behind: what it names no more stays until it has been told.
  acknowledge(third)
  await until(() => inStep('b')[0]?.[1] === true, 'the acknowledgement')
  named.update([['c', '1']], ['b'])
  addresses.update([naming('c')], [])
  const fifth = await stream.received(5)
  t.equal(brief(fifth), 'named c', 'nothing is taken away yet')
  acknowledge(fifth)
  acknowledge(fourth)
  await stream.received(7)
  t.strictSame(heard().slice(5), ['address w', 'named -b'])
  t.strictSame(inStep('c'), [['agent', true]])
})

void t.test('what comes to concern those alone that name it, comes after them', async (t) => {
  const { named, addresses, stream, acknowledge, heard, port } = await setUp(t)
  named.update(
    [
      ['a', 'all'],
      ['b', 'all'],
    ],
    [],
  )
  addresses.update([naming()], [])
  named.complete()
  addresses.complete()
  stream.send({ typeUrl: NAMED.typeUrl, resourceNamesSubscribe: ['*'] })
  acknowledge(await stream.received(1))
  stream.send({ resourceNamesSubscribe: ['*'] })
  acknowledge(await stream.received(2))

  named.update(
    [
      ['a', 'namers'],
      ['c', 'namers'],
    ],
    [],
  )
  addresses.update([naming('a', 'c')], [])
  const [third, fourth] = [await stream.received(3), await stream.received(4)]
  t.strictSame(heard().slice(2), ['named c', 'address w'], 'until then it is for all')
  acknowledge(third)
  await stream.received(5)
  t.strictSame(heard().slice(4), ['named a'])
  acknowledge(fourth)

  const versions = (...responses: readonly DeltaDiscoveryResponse[]) =>
    Object.fromEntries(
      responses.flatMap(({ resources }) => resources.map(({ name, version }) => [name, version])),
    )
  const [first, second] = stream.responses
  if (first === undefined || second === undefined) throw new Error('there are no responses')
  const again = openStream(t, port, pki)
  again.send({
    typeUrl: NAMED.typeUrl,
    resourceNamesSubscribe: ['*'],
    initialResourceVersions: versions(first),
  })
  const sixth = await again.received(1)
  again.send({ resourceNamesSubscribe: ['*'], initialResourceVersions: versions(second) })
  await again.received(2)
  again.send({ typeUrl: NAMED.typeUrl, responseNonce: sixth.nonce })
  await again.received(3)
  t.strictSame(again.responses.map(brief), ['named c', 'address w', 'named a'], 'who comes again')
})

void t.test('who refuses something is not in step, until it takes it', async (t) => {
  const { named, stream, acknowledge, inStep } = await setUp(t)
  named.update([['a', '1']], [])
  named.complete()
  stream.send({ typeUrl: NAMED.typeUrl, resourceNamesSubscribe: ['*'] })
  acknowledge(await stream.received(1), 'no')
  named.update([['b', '1']], [])
  acknowledge(await stream.received(2))
  named.update([['c', '1']], [])
  const third = await stream.received(3)
  t.strictSame(
    [inStep('a')[0]?.[1], inStep('b')[0]?.[1], inStep('c')[0]?.[1]],
    [false, true, false],
  )
  acknowledge(third)
  named.update([['a', '2']], [])
  acknowledge(await stream.received(4))
  named.update([['d', '1']], [])
  await stream.received(5)
  t.equal(inStep('a')[0]?.[1], true)
})
