// SPDX-License-Identifier: Apache-2.0
// What a client that floods a waypoint costs the others: their failures, and their latency beside what it is without.

import { spread } from '../statistics.ts'
import type { ClientReport } from './client.ts'
import { Bench, type Rounds, type Shape, warmUp } from './rig.ts'

/** Far below saturation: client, app, waypoint and flooder share the machine's cores. */
const SHAPE: Shape = { connections: 4, tunnels: 4, streams: 2, protocol: 'grpc', rate: 500 }

/** Of our waypoint alone. The flooder speaks HTTP/2 as the others do, under an identity of its own. Milliseconds. */
export async function measureFloods(rounds: Rounds): Promise<Readonly<Record<string, number>>> {
  const calm: ClientReport[] = []
  const flooded: ClientReport[] = []
  for (let round = 0; round < rounds.rounds; round += 1) {
    await using bench = await Bench.make()
    const proxy = (await bench.proxies(SHAPE)).get('waypoint')
    if (proxy === undefined) throw new Error('there is no waypoint to flood')
    await warmUp(bench, SHAPE, proxy, rounds)
    const ask = async (): Promise<ClientReport> =>
      await (await bench.client(SHAPE, proxy, rounds.seconds)).run()
    calm.push(await ask())
    await bench.flooder(proxy)
    flooded.push(await ask())
  }
  const median = (values: readonly number[]): number => spread(values).median
  return {
    'requests beside a flood': flooded.reduce((sum, { requests }) => sum + requests, 0),
    failed: flooded.reduce((sum, { failed }) => sum + failed, 0),
    'p50 without': median(calm.map(({ p50 }) => p50)),
    'p50 beside it': median(flooded.map(({ p50 }) => p50)),
    'p99 without': median(calm.map(({ p99 }) => p99)),
    'p99 beside it': median(flooded.map(({ p99 }) => p99)),
    'p99, times': median(flooded.map(({ p99 }, round) => p99 / (calm[round]?.p99 ?? 0))),
  }
}
