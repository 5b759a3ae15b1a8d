// SPDX-License-Identifier: Apache-2.0
// Clients that read slowly, ask for single names, or misbehave, seen from the server by a bare gRPC stream.

import { create } from '@bufbuild/protobuf'
import { Client, Metadata } from '@grpc/grpc-js'
import { pino } from 'pino'
import t from 'tap'
import type { DeltaDiscoveryResponse } from '../../mesh/proto/gen/discovery_pb.js'
import { secureChannel } from '../../mesh/grpc/channel.ts'
import { StatusSchema } from '../../mesh/proto/gen/status_pb.js'
import { until } from '../support/until.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { ip, sampleWorkload } from '../model/samples.ts'
import { DELTA, openStream } from './bare-stream.ts'
import { makePki, startServer, TOKEN, workloadResource } from './support.ts'

const pki = await makePki()

const namesOf = (response: DeltaDiscoveryResponse) => response.resources.map(({ name }) => name)

void t.test(
  'a client that does not acknowledge is sent nothing more, then everything once',
  async (t) => {
    const server = await startServer(pki)
    t.teardown(server.stop)
    const workload = sampleWorkload('busy')
    server.addresses.update([workloadResource(workload)], [])
    server.addresses.complete()
    const [slow, quick] = [openStream(t, server.port, pki), openStream(t, server.port, pki)]
    slow.send({ resourceNamesSubscribe: ['*'] })
    quick.send({ resourceNamesSubscribe: ['*'] })
    const first = await slow.received(1)
    let last = await quick.received(1)
    // Each round is a push of its own: the quick client has acknowledged the one before.
    for (let round = 1; round <= 20; round += 1) {
      quick.send({ responseNonce: last.nonce })
      server.addresses.update(
        [
          workloadResource({ ...workload, canonicalRevision: `v${round}` }),
          workloadResource(sampleWorkload(`short-lived-${round}`)),
        ],
        round === 1 ? [] : [sampleWorkload(`short-lived-${round - 1}`).uid],
      )
      last = await quick.received(round + 1)
    }
    t.equal(slow.responses.length, 1, 'nothing was queued on the unanswered stream')
    slow.send({ responseNonce: 'of another stream' })
    slow.send({ responseNonce: first.nonce })
    const second = await slow.received(2)
    t.strictSame(namesOf(second).sort(), [workload.uid, sampleWorkload('short-lived-20').uid])
    t.equal(second.removedResources.length, 19)
  },
)

void t.test('single names, aliases and unknown names are answered, and followed', async (t) => {
  const server = await startServer(pki)
  t.teardown(server.stop)
  const wanted = sampleWorkload('wanted', { addresses: [ip('10.0.0.1')] })
  const other = sampleWorkload('other', { addresses: [ip('10.0.0.2')] })
  server.addresses.update([wanted, other].map(workloadResource), [])
  server.addresses.complete()
  const stream = openStream(t, server.port, pki)
  stream.send({ resourceNamesSubscribe: ['/10.0.0.1', '/10.9.9.9'] })
  const first = await stream.received(1)
  t.strictSame(namesOf(first), [wanted.uid])
  t.strictSame(first.resources[0]?.aliases, ['/10.0.0.1'])
  t.strictSame(first.removedResources, ['/10.9.9.9'], 'absence is an answer')

  stream.send({ responseNonce: first.nonce })
  server.addresses.update(
    [
      { ...other, status: 'unhealthy' as const },
      sampleWorkload('late', { addresses: [ip('10.9.9.9')] }),
    ].map(workloadResource),
    [],
  )
  const second = await stream.received(2)
  t.strictSame(namesOf(second), [sampleWorkload('late').uid], 'the other is not followed')

  stream.send({ responseNonce: second.nonce, resourceNamesUnsubscribe: ['/10.9.9.9'] })
  server.addresses.update([], [sampleWorkload('late').uid, wanted.uid])
  const third = await stream.received(3)
  t.strictSame(third.removedResources, [wanted.uid])
})

void t.test('a wildcard may be given up for single names', async (t) => {
  const server = await startServer(pki)
  t.teardown(server.stop)
  const [one, two] = [sampleWorkload('one'), sampleWorkload('two')]
  server.addresses.update([one, two].map(workloadResource), [])
  server.addresses.complete()
  const stream = openStream(t, server.port, pki)
  stream.send({})
  const first = await stream.received(1)
  t.equal(first.resources.length, 2, 'a first request that names nothing wants everything')
  stream.send({
    responseNonce: first.nonce,
    resourceNamesUnsubscribe: ['*'],
    resourceNamesSubscribe: [two.uid],
  })
  const second = await stream.received(2)
  t.strictSame(namesOf(second), [two.uid])
  stream.send({ responseNonce: second.nonce })
  server.addresses.update([], [one.uid, two.uid])
  t.strictSame((await stream.received(3)).removedResources, [two.uid])
})

void t.test(
  'everything asked for and taken back at once is answered empty, by an on-demand client’s custom',
  async (t) => {
    const server = await startServer(pki)
    t.teardown(server.stop)
    server.addresses.update([workloadResource(sampleWorkload('one'))], [])
    server.addresses.complete()
    const stream = openStream(t, server.port, pki)
    stream.send({ resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] })
    const first = await stream.received(1)
    t.strictSame([namesOf(first), first.removedResources], [[], []])
    stream.send({
      responseNonce: first.nonce,
      resourceNamesSubscribe: [sampleWorkload('one').uid],
    })
    t.strictSame(namesOf(await stream.received(2)), [sampleWorkload('one').uid])
  },
)

void t.test(
  'types are served side by side, and a type nobody offers stays unanswered',
  async (t) => {
    const server = await startServer(pki)
    t.teardown(server.stop)
    server.addresses.complete()
    const stream = openStream(t, server.port, pki)
    stream.send({ typeUrl: 'type.googleapis.com/nobody.offers.This' })
    stream.send({})
    const first = await stream.received(1)
    t.equal(first.typeUrl, ADDRESS.typeUrl)
    t.equal(first.resources.length, 0)
    t.equal(stream.responses.length, 1)
  },
)

void t.test('bytes that are no request end that stream only', async (t) => {
  const server = await startServer(pki)
  t.teardown(server.stop)
  server.addresses.complete()
  const channel = secureChannel(`127.0.0.1:${server.port}`, Buffer.from(pki.rootPem), undefined)
  const client = new Client(`127.0.0.1:${server.port}`, channel.credentials, channel.options)
  t.teardown(() => client.close())
  const metadata = new Metadata()
  metadata.set('authorization', `Bearer ${TOKEN}`)
  const garbage = client.makeBidiStreamRequest(
    DELTA.path,
    (bytes: Buffer) => bytes,
    DELTA.responseDeserialize,
    metadata,
  )
  const ended = new Promise<Error>((resolve) => garbage.on('error', resolve))
  garbage.write(Buffer.from('ffffffff', 'hex'))
  t.match((await ended).message, /INTERNAL|deserializing/)
  const stream = openStream(t, server.port, pki)
  stream.send({})
  t.equal((await stream.received(1)).resources.length, 0)
})

void t.test('a client that lies costs little, in memory, lines and turns', async (t) => {
  const lines: string[] = []
  const logger = pino({}, { write: (line: string) => void lines.push(line) })
  const server = await startServer(pki, 0, { logger, streamsOf: ({ name }) => name })
  t.teardown(server.stop)
  const workload = sampleWorkload('one')
  server.addresses.update([workloadResource(workload)], [])
  server.addresses.complete()
  const follow = async () => {
    const stream = openStream(t, server.port, pki)
    stream.send({ resourceNamesSubscribe: ['*'] })
    await stream.received(1)
    return stream
  }

  await t.test('by names that nothing has', async (t) => {
    const liar = await follow()
    liar.send({ resourceNamesSubscribe: ['x'.repeat(1_025)] })
    await liar.until(() => liar.errors.length > 0)
    t.match(liar.errors, [/RESOURCE_EXHAUSTED: asks for a name of 1025 characters/])
  })
  await t.test('by refusals of what it was not sent', async (t) => {
    const liar = await follow()
    const detail = { code: 3, message: 'no'.repeat(1_000) }
    const errorDetail = create(StatusSchema, detail)
    for (let count = 0; count < 300; count += 1) liar.send({ responseNonce: 'x', errorDetail })
    liar.send({ responseNonce: liar.responses[0]?.nonce ?? '', errorDetail })
    await until(() => server.refusals.length > 0, 'the refusal')
    t.equal(server.refusals.length, 1)
    t.ok((server.refusals[0]?.length ?? 0) < 400, 'an excerpt of it')
    t.equal(lines.filter((line) => line.includes('client refused resources')).length, 1)
  })
  await t.test('by streams: the oldest goes', async (t) => {
    const streams = [await follow(), await follow(), await follow()]
    const [oldest] = streams
    streams.push(await follow(), await follow())
    await oldest?.until(() => oldest.errors.length > 0)
    t.match(oldest?.errors, [/RESOURCE_EXHAUSTED: its caller has too many streams/])
    t.same(
      streams.slice(1).flatMap(({ errors }) => errors),
      [],
    )
    t.equal(server.xds.clientCount, 4)
  })
})

void t.test('a client that sends too much waits, and others are served', async (t) => {
  const server = await startServer(pki, 0, { requests: { burst: 20, perSecond: 0.001 } })
  t.teardown(server.stop)
  const workload = sampleWorkload('one')
  server.addresses.update([workloadResource(workload)], [])
  server.addresses.complete()
  const [liar, other] = [openStream(t, server.port, pki), openStream(t, server.port, pki)]
  for (const stream of [liar, other]) stream.send({ resourceNamesSubscribe: ['*'] })
  await liar.received(1)
  for (let count = 0; count < 20; count += 1) liar.send({ resourceNamesUnsubscribe: ['x'] })
  // This would end its stream.
  liar.send({ resourceNamesSubscribe: ['x'.repeat(1_025)] })
  for (let round = 1; round <= 10; round += 1) {
    other.send({ responseNonce: (await other.received(round)).nonce })
    const changed = { ...workload, canonicalRevision: `v${round}` }
    server.addresses.update([workloadResource(changed)], [])
  }
  await other.received(11)
  t.same(liar.errors, [], 'what it has sent last is not read yet')
})
