// SPDX-License-Identifier: Apache-2.0
// Discovery end to end over gRPC and TLS on loopback: what the server offers arrives in the client's mesh state, whatever
// happens to the stream in between.

import { writeFile } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { ResourceProblem } from '../../mesh/model/convert.ts'
import { createAddressConsumer } from '../../mesh/xds/address-consumer.ts'
import { XdsClient, type XdsConnectionState } from '../../mesh/xds/client.ts'
import { ADDRESS_TYPE_URL } from '../../mesh/xds/type-urls.ts'
import { ip, podUid, sampleService, sampleWorkload, serviceKey } from '../model/samples.ts'
import {
  makeFiles,
  makePki,
  NODE,
  serviceResource,
  silent,
  startServer,
  Waiter,
  workloadResource,
} from './support.ts'

t.setTimeout(30_000)

const pki = await makePki()

/** An agent's end: a mesh state fed by a client of the server at this port. */
async function startClient(test: Test, port: number, rootPem = pki.rootPem) {
  const files = await makeFiles(rootPem)
  const state = new MeshState()
  const waiter = new Waiter()
  const states: XdsConnectionState[] = []
  const problems: ResourceProblem[] = []
  const batches: number[] = []
  let synced = 0
  const client = new XdsClient({
    address: `127.0.0.1:${port}`,
    rootFile: files.rootFile,
    tokenFile: files.tokenFile,
    node: NODE,
    logger: silent,
    consumers: [
      createAddressConsumer((changes) => {
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
  })
  state.subscribe(waiter.poke)
  test.teardown(async () => {
    await client.stop()
    await files.remove()
  })
  client.start()
  const until = (holds: () => boolean) => waiter.until(holds)
  return { state, client, files, until, states, problems, batches, synced: () => synced }
}

void t.test('a workload and a service that the server offers arrive in the mesh state', async (t) => {
  const server = await startServer(pki)
  t.teardown(server.stop)
  const workload = sampleWorkload('frontend', { addresses: [ip('10.244.0.7'), ip('fd98::7')] })
  const service = sampleService('catalog')
  server.xds.update(ADDRESS_TYPE_URL, [workloadResource(workload), serviceResource(service)], [])
  server.xds.markComplete(ADDRESS_TYPE_URL)

  const agent = await startClient(t, server.port)
  await agent.until(() => agent.synced() > 0)

  t.strictSame(agent.state.findWorkload(ip('fd98::7')), workload)
  t.strictSame(agent.state.findServiceByAddress(ip('10.96.0.50'), 'shop'), service)
  t.equal(agent.synced(), 1)
  t.strictSame(
    agent.states.map(({ kind }) => kind),
    ['connecting', 'connected'],
  )

  server.xds.update(ADDRESS_TYPE_URL, [], [workload.uid, service.key])
  await agent.until(() => agent.state.size.workloads === 0)
  t.equal(agent.state.size.services, 0)
})
