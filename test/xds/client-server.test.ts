// SPDX-License-Identifier: Apache-2.0
// Discovery end to end over gRPC and TLS on loopback: what the server offers arrives in the client's mesh state, whatever
// happens to the stream in between.

import { create } from '@bufbuild/protobuf'
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js'
import { writeFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import {
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
  ResourceSchema,
} from '../../mesh/proto/gen/discovery_pb.js'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { DELTA } from './bare-stream.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { ResourceProblem } from '../../mesh/xds/resource-type.ts'
import { meshSubscription } from '../../mesh/xds/mesh-subscription.ts'
import { type StreamEnd, XdsClient, type XdsConnectionState } from '../../mesh/xds/client.ts'
import { ip, sampleService, sampleWorkload } from '../model/samples.ts'
import { Waiter } from '../support/waiter.ts'
import {
  makeFiles,
  makePki,
  NODE,
  serviceResource,
  silent,
  SERVER_NAME,
  startServer,
  TOKEN,
  workloadResource,
} from './support.ts'

const pki = await makePki()

/** An agent's end: a mesh state fed by a client of the server at this port. */
async function startClient(
  test: Test,
  port: number,
  choices: {
    rootPem?: string
    token?: string
    host?: string
    serverName?: string
    logger?: Logger
  } = {},
) {
  const { rootPem = pki.rootPem, token = TOKEN, host = '127.0.0.1', serverName } = choices
  const files = await makeFiles(rootPem, token)
  const state = new MeshState()
  const waiter = new Waiter()
  const states: XdsConnectionState[] = []
  const problems: ResourceProblem[] = []
  const batches: number[] = []
  const ends: StreamEnd[] = []
  const told: { typeUrl: string; bytes: number }[] = []
  let synced = 0
  const client = new XdsClient({
    address: `${host}:${port}`,
    ...(serverName === undefined ? {} : { serverName }),
    roots: files.rootFile,
    tokenFile: files.tokenFile,
    node: NODE,
    logger: choices.logger ?? silent,
    subscriptions: [
      meshSubscription((changes) => {
        batches.push(changes.length)
        state.apply(changes)
      }),
    ],
    onSynced: () => {
      synced += 1
      waiter.poke()
    },
    onConnectionState: (connection) => {
      states.push(connection)
      waiter.poke()
    },
    onProblems: (_typeUrl, found) => {
      problems.push(...found)
      waiter.poke()
    },
    onEnd: (end) => {
      ends.push(end)
      waiter.poke()
    },
    onResponse: (typeUrl, bytes) => told.push({ typeUrl, bytes }),
  })
  state.subscribe(waiter.poke)
  test.teardown(async () => {
    await client.stop()
    await files.remove()
  })
  client.start()
  const until = (holds: () => boolean) => waiter.until(holds)
  return {
    state,
    client,
    files,
    until,
    states,
    problems,
    batches,
    ends,
    told,
    synced: () => synced,
  }
}

void t.test(
  'a workload and a service that the server offers arrive in the mesh state',
  async (t) => {
    const server = await startServer(pki)
    t.teardown(server.stop)
    const workload = sampleWorkload('frontend', { addresses: [ip('10.244.0.7'), ip('fd98::7')] })
    const service = sampleService('catalog')
    server.addresses.update([workloadResource(workload), serviceResource(service)], [])
    server.addresses.complete()

    const agent = await startClient(t, server.port)
    await agent.until(() => agent.synced() > 0)

    t.strictSame(agent.state.findWorkload(ip('fd98::7')), workload)
    t.strictSame(
      agent.state.findService({ address: ip('10.96.0.50'), port: 80 }, 'shop')?.service,
      service,
    )
    t.equal(agent.synced(), 1)
    t.strictSame(
      agent.states.map(({ kind }) => kind),
      ['connecting', 'connected'],
    )

    server.addresses.update([], [workload.uid, service.key])
    await agent.until(() => agent.state.size.workloads === 0)
    t.equal(agent.state.size.services, 0)
  },
)

void t.test(
  'after the control plane restarts, only what changed meanwhile travels, and nothing is lost',
  async (t) => {
    const [kept, changed, gone] = ['kept', 'changed', 'gone'].map((name) => sampleWorkload(name))
    if (kept === undefined || changed === undefined || gone === undefined) return
    const first = await startServer(pki)
    first.addresses.update([kept, changed, gone].map(workloadResource), [])
    first.addresses.complete()
    const agent = await startClient(t, first.port)
    await agent.until(() => agent.state.size.workloads === 3)

    first.stop()
    await agent.until(() => agent.states.some(({ kind }) => kind === 'disconnected'))
    t.equal(agent.state.size.workloads, 3, 'what was learned stays while nobody answers')
    t.ok(agent.ends[0] === 'Error' || agent.ends[0] === 'Complete', 'a stream that had stood')
    agent.client.reconnect('for the test')
    await agent.until(() => agent.ends.includes('ConnectionError'))
    t.equal(
      agent.told[0]?.bytes,
      [kept, changed, gone].reduce((sum, each) => sum + workloadResource(each).payload.length, 0),
    )

    const second = await startServer(pki, first.port)
    t.teardown(second.stop)
    await agent.until(() => agent.states.at(-1)?.kind === 'connected')
    second.addresses.update(
      [kept, { ...changed, status: 'unhealthy' as const }].map(workloadResource),
      [],
    )
    t.equal(agent.state.size.workloads, 3, 'a server that is still filling takes nothing away')
    second.addresses.complete()
    await agent.until(() => agent.state.size.workloads === 2)
    t.equal(agent.state.workload(changed.uid)?.status, 'unhealthy')
    t.equal(agent.state.workload(gone.uid), undefined)
    t.strictSame(agent.batches, [3, 2], 'the unchanged workload did not travel again')
    t.equal(agent.synced(), 1)
  },
)

void t.test(
  'a resource that makes no sense is refused by name, the rest of its batch applied',
  async (t) => {
    const server = await startServer(pki)
    t.teardown(server.stop)
    const good = sampleWorkload('good')
    const bad = sampleWorkload('bad')
    const misnamed = { ...workloadResource(bad), name: 'Kubernetes//Pod/shop/other' }
    const garbage = { name: 'garbage', aliases: [], payload: Uint8Array.of(0xff, 0xff, 0xff) }
    server.addresses.update([misnamed, garbage, workloadResource(good)], [])
    server.addresses.complete()
    const agent = await startClient(t, server.port)
    await agent.until(() => agent.synced() > 0)
    t.strictSame(
      [...agent.state.workloads()].map(({ name }) => name),
      ['good'],
    )
    t.strictSame(
      agent.problems.map(({ resource, field }) => `${resource} ${field}`),
      ['Kubernetes//Pod/shop/other uid', 'garbage resource'],
    )

    // The refusal is the request before the acknowledgement of the next response.
    server.addresses.update([workloadResource(bad)], [])
    await agent.until(() => agent.state.workload(bad.uid) !== undefined)
    t.equal(server.refusals.length, 1)
    t.match(
      server.refusals[0],
      /Kubernetes\/\/Pod\/shop\/other: uid: is .*garbage: resource: is not/,
    )

    // A good resource that turns bad keeps its last good state.
    server.addresses.update([{ ...garbage, name: good.uid }], [])
    await agent.until(() => agent.problems.length > 2)
    t.strictSame(agent.state.workload(good.uid), good)
  },
)

void t.test('a refused token is read again, and the renewed one is let in', async (t) => {
  const server = await startServer(pki)
  t.teardown(server.stop)
  server.addresses.complete()
  const agent = await startClient(t, server.port, { token: 'expired' })
  await agent.until(() => agent.states.some(({ kind }) => kind === 'disconnected'))
  const refusal = agent.states.find(({ kind }) => kind === 'disconnected')
  t.match(refusal, { kind: 'disconnected', reason: 'UNAUTHENTICATED: bad token' })
  t.equal(agent.client.isSynced, false)
  await writeFile(agent.files.tokenFile, TOKEN)
  await agent.until(() => agent.synced() > 0)
  t.equal(server.xds.clientCount, 1)
})

void t.test(
  'a server under a strange root is not talked to, until the root file names that root',
  async (t) => {
    const server = await startServer(pki)
    t.teardown(server.stop)
    server.addresses.complete()
    const strange = await makePki()
    const agent = await startClient(t, server.port, { rootPem: strange.rootPem })
    await agent.until(() => agent.states.some(({ kind }) => kind === 'disconnected'))
    t.match(agent.states[1], {
      kind: 'disconnected',
      reason: /UNAVAILABLE.*(certificate|self.signed)/,
    })
    t.equal(server.xds.clientCount, 0)
    await writeFile(agent.files.rootFile, pki.rootPem)
    await agent.until(() => agent.synced() > 0)
    t.equal(agent.client.isSynced, true)
  },
)

void t.test(
  'roots that come late are told once as missing, and wait for nothing when they are there',
  async (t) => {
    const server = await startServer(pki)
    t.teardown(server.stop)
    server.addresses.complete()
    const warned: string[] = []
    const logger = pino({ level: 'warn' }, { write: (line: string) => void warned.push(line) })
    const files = await makeFiles(pki.rootPem, TOKEN)
    t.teardown(() => files.remove())
    const states: XdsConnectionState[] = []
    const waiter = new Waiter()
    let roots: Promise<string> = Promise.reject(new Error('there are none yet'))
    roots.catch(() => undefined)
    const client = new XdsClient({
      address: `127.0.0.1:${server.port}`,
      roots: () => roots,
      tokenFile: files.tokenFile,
      node: NODE,
      logger,
      subscriptions: [meshSubscription(() => undefined)],
      onSynced: waiter.poke,
      onConnectionState: (state) => {
        states.push(state)
        waiter.poke()
      },
    })
    t.teardown(() => client.stop())
    client.start()
    const failures = (): number => states.filter(({ kind }) => kind === 'disconnected').length
    await waiter.until(() => failures() >= 3, 'three attempts')
    t.equal(warned.length, 1)
    t.match(warned[0], /there are none yet/)
    roots = Promise.resolve(pki.rootPem)
    t.match(states.at(-1), { kind: 'disconnected' })
    client.reconnect('there are roots')
    await new Promise((resolve) => setImmediate(resolve))
    t.match(states.at(-1), { kind: 'connecting' }, 'at once, however long the wait had become')
    await waiter.until(() => client.isSynced, 'the mesh state')
  },
)

void t.test(
  'missing files and an unreachable server are retried, and stop() ends it at once',
  async (t) => {
    const agent = await startClient(t, 1)
    await agent.until(() => agent.states.some(({ kind }) => kind === 'disconnected'))
    t.match(agent.states[1], { kind: 'disconnected', reason: /UNAVAILABLE.*ECONNREFUSED/ })
    await agent.files.remove()
    await agent.until(() =>
      agent.states.some((each) => each.kind === 'disconnected' && /Cannot read/.test(each.reason)),
    )
    await agent.client.stop()
    const attempts = agent.states.length
    await agent.client.stop()
    t.equal(agent.states.length, attempts)
  },
)

void t.test('a burst of changes travels as one response with the last state of each', async (t) => {
  const server = await startServer(pki)
  t.teardown(server.stop)
  server.addresses.complete()
  const agent = await startClient(t, server.port)
  await agent.until(() => agent.synced() > 0)
  const workload = sampleWorkload('busy')
  for (let revision = 1; revision <= 50; revision += 1)
    server.addresses.update(
      [workloadResource({ ...workload, canonicalRevision: `v${revision}` })],
      [],
    )
  await agent.until(() => agent.state.size.workloads === 1)
  t.equal(agent.state.workload(workload.uid)?.canonicalRevision, 'v50')
  t.strictSame(agent.batches, [0, 1])
})

void t.test('a check of the caller that fails or never answers lets nobody in', async (t) => {
  const checks = {
    throws: () => Promise.reject(new Error('the API server is away')),
    hangs: () => new Promise<never>(() => undefined),
  }
  const reasons = {
    throws: /INTERNAL: Cannot check the caller: the API server is away/,
    hangs: /UNAVAILABLE: Cannot check the caller: no answer in 20 ms/,
  }
  for (const kind of ['throws', 'hangs'] as const) {
    const server = await startServer(pki, 0, {
      authenticate: checks[kind],
      authenticationTimeoutMs: 20,
    })
    t.teardown(server.stop)
    server.addresses.update([workloadResource(sampleWorkload('secret'))], [])
    server.addresses.complete()
    const agent = await startClient(t, server.port)
    await agent.until(() => agent.states.some((each) => each.kind === 'disconnected'))
    t.match(agent.states[1], { kind: 'disconnected', reason: reasons[kind] })
    t.equal(agent.state.size.workloads, 0)
    t.equal(server.xds.clientCount, 0)
    await agent.client.stop()
  }
})

void t.test('the server forgets a client that leaves', async (t) => {
  const server = await startServer(pki)
  t.teardown(server.stop)
  server.addresses.complete()
  const [one, two] = [await startClient(t, server.port), await startClient(t, server.port)]
  await server.clientCount(2)
  await one.client.stop()
  await server.clientCount(1)
  await two.client.stop()
  await server.clientCount(0)
  t.equal(server.xds.clientCount, 0)
})

void t.test(
  'a fault in applying a response ends the stream, not the process, and it is asked for again',
  async (t) => {
    const server = await startServer(pki)
    t.teardown(server.stop)
    server.addresses.update([workloadResource(sampleWorkload('pod'))], [])
    server.addresses.complete()
    const agent = await startClient(t, server.port)
    await agent.until(() => agent.state.size.workloads === 1)
    let faults = 0
    const unsubscribe = agent.state.subscribe(() => {
      faults += 1
      unsubscribe()
      throw new Error('a listener is broken')
    })
    server.addresses.update([workloadResource(sampleWorkload('next'))], [])
    await agent.until(() => agent.states.some((each) => each.kind === 'disconnected'))
    t.match(
      agent.states.find((each) => each.kind === 'disconnected'),
      { reason: /a listener is broken/ },
    )
    await agent.until(() => agent.batches.length === 3)
    t.equal(faults, 1)
    t.equal(agent.state.size.workloads, 2)
  },
)

const hasIpv6 = Object.values(networkInterfaces())
  .flat()
  .some((each) => each?.address === '::1')

void t.test(
  'the server is known by its address, of either family, or by a name it is told to have',
  { skip: hasIpv6 ? false : 'needs IPv6 on loopback' },
  async (t) => {
    const server = await startServer(pki, 0, {}, '[::]')
    t.teardown(server.stop)
    server.addresses.complete()
    const cases = [
      { host: '[::1]' },
      { host: '127.0.0.1' },
      { host: '127.0.0.2', serverName: SERVER_NAME },
    ]
    for (const choices of cases) {
      const agent = await startClient(t, server.port, choices)
      await agent.until(() => agent.synced() > 0)
      t.equal(agent.states.length, 2, `${choices.host} at the first attempt`)
    }
    for (const choices of [{ host: '127.0.0.2' }, { host: '[::1]', serverName: 'other.name' }]) {
      const agent = await startClient(t, server.port, choices)
      await agent.until(() => agent.states.some((each) => each.kind === 'disconnected'))
      t.match(agent.states[1], { kind: 'disconnected', reason: /altname|does not match/i })
      t.equal(agent.client.isSynced, false)
    }
  },
)

void t.test('a control plane that has gone mad does not fill the log', async (t) => {
  const server = new Server()
  server.addService(
    { stream: DELTA },
    {
      stream: (call: ServerDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>) => {
        call.resume()
        const resource = { name: 'a', resource: { typeUrl: 'b', value: new Uint8Array() } }
        for (let count = 0; count < 300; count += 1) {
          call.write(create(DeltaDiscoveryResponseSchema, { typeUrl: 'nobody.asked/For.This' }))
          call.write(
            create(DeltaDiscoveryResponseSchema, {
              typeUrl: ADDRESS.typeUrl,
              resources: [create(ResourceSchema, resource)],
              nonce: String(count),
            }),
          )
        }
      },
    },
  )
  const papers = {
    cert_chain: Buffer.from(pki.certificatePem),
    private_key: Buffer.from(pki.keyPem),
  }
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createSsl(null, [papers]), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  )
  t.teardown(() => server.forceShutdown())
  const lines: string[] = []
  const logger = pino({}, { write: (line: string) => void lines.push(line) })
  const agent = await startClient(t, port, { logger })
  await agent.until(() => agent.problems.length === 300)
  const about = (text: string) => lines.filter((line) => line.includes(text)).length
  t.ok(about('ignoring a response of a type nobody asked for') < 110)
  t.ok(about('refused resources from the control plane') < 110)
})
