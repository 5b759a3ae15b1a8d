// SPDX-License-Identifier: Apache-2.0
// The control plane is found by its name, and while no DNS answers by the address that the kubelet has told.

import t from 'tap'
import { pino } from 'pino'
import { ServiceRoute } from '../../mesh/grpc/service-route.ts'
import { XdsClient } from '../../mesh/xds/client.ts'
import { meshSubscription } from '../../mesh/xds/mesh-subscription.ts'
import {
  makeFiles,
  makePki,
  NODE,
  SERVER_NAME,
  silent,
  startServer,
  TOKEN,
} from '../xds/support.ts'

const HOST = 'controller.ambit-system.svc'
const ENVIRONMENT = { CONTROLLER_SERVICE_HOST: '127.0.0.1' }

const routeBy = (
  resolve: (host: string) => Promise<unknown>,
  environment: Record<string, string> = ENVIRONMENT,
  logged: string[] = [],
): ServiceRoute =>
  new ServiceRoute({
    namespace: 'ambit-system',
    environment,
    logger: pino({}, { write: (line: string) => void logged.push(line) }),
    resolve,
  })

const known = (): Promise<unknown> => Promise.resolve({ address: '10.0.0.1' })
const unknown = (): Promise<unknown> => Promise.reject(new Error('EAI_AGAIN'))

void t.test('a name that is known is dialled by its name', async (t) => {
  t.strictSame(await routeBy(known).dial(`${HOST}:15012`), { address: `${HOST}:15012` })
})

void t.test(
  'one that is not, by its address, and the certificate must bear the name',
  async (t) => {
    const logged: string[] = []
    const route = routeBy(unknown, ENVIRONMENT, logged)
    const wanted = { address: '127.0.0.1:15012', serverName: HOST }
    t.strictSame(await route.dial(`${HOST}:15012`), wanted)
    t.strictSame(await route.dial(`${HOST}:15012`), wanted)
    t.equal(logged.length, 1, 'said once')
    t.match(logged[0], /DNS does not answer/)
    const six = routeBy(unknown, { CONTROLLER_SERVICE_HOST: 'fd00::1' })
    t.match(await six.dial(`${HOST}:15012`), { address: '[fd00::1]:15012' })
  },
)

void t.test('a resolver that never answers is asked once, and not waited for', async (t) => {
  let asked = 0
  const route = routeBy(() => {
    asked += 1
    return new Promise(() => undefined)
  })
  const all = await Promise.all([1, 2, 3].map(() => route.dial(`${HOST}:15012`)))
  for (const dialled of all) t.match(dialled, { address: '127.0.0.1:15012' })
  t.equal(asked, 1)
})

void t.test('of what the kubelet says nothing there is only the name', async (t) => {
  for (const address of [
    'controller.other.svc:15012',
    'istiod.example:15012',
    '10.0.0.7:15012',
    '[fd00::7]:15012',
  ])
    t.strictSame(await routeBy(unknown).dial(address), { address })
  const broken = routeBy(unknown, { CONTROLLER_SERVICE_HOST: 'tcp://10.0.0.1:1' })
  t.strictSame(await broken.dial(`${HOST}:1`), { address: `${HOST}:1` })
})

void t.test('an agent without DNS follows the control plane', async (t) => {
  t.equal(SERVER_NAME, HOST)
  const pki = await makePki()
  const server = await startServer(pki)
  server.addresses.complete()
  const files = await makeFiles(pki.rootPem, TOKEN)
  const synced = Promise.withResolvers<void>()
  const client = new XdsClient({
    address: `${HOST}:${server.port}`,
    route: routeBy(unknown),
    roots: files.rootFile,
    tokenFile: files.tokenFile,
    node: NODE,
    subscriptions: [meshSubscription(() => undefined)],
    logger: silent,
    onSynced: () => synced.resolve(),
  })
  t.teardown(async () => {
    await client.stop()
    server.stop()
    await files.remove()
  })
  client.start()
  await synced.promise
  t.pass('by the address, under the name')
})
