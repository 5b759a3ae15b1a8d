// SPDX-License-Identifier: Apache-2.0
// A client of the waypoint's bench that floods it by HTTP/2 within tunnels, one kind after the other, again and again as fast as it is let; a
// process of its own. Reads its settings as JSON from argv[2]; says "ready PORT" when it has begun, and ends with its standard input.

import { setTimeout as pause } from 'node:timers/promises'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { createHbonePool } from '../../mesh/hbone/pool.ts'
import { FRAME, PREFACE } from '../../mesh/http2/protocol.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { IpAddress, SpiffeId } from '../../mesh/model/types.ts'
import { ok } from '../../mesh/result.ts'
import { frame } from '../../test/hbone/raw-peer.ts'
import { FLOODS } from '../../test/waypoint/flood-kinds.ts'
import { dialLoopback } from '../dial.ts'
import { TARGET } from './parties.ts'

export interface FlooderSettings {
  readonly certificate: WorkloadCertificate
  readonly waypointIdentity: SpiffeId
  readonly port: number
}

const { certificate, waypointIdentity, port } = JSON.parse(
  process.argv[2] ?? '{}',
) as FlooderSettings
const LOOPBACK = '127.0.0.1' as IpAddress
const OPEN_MS = 5_000
/** Of one who is refused: no flood of its own making. */
const RETRY_MS = 5
const floods = Object.values(FLOODS).map((make) =>
  Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0), make()]),
)
const pool = createHbonePool({
  certificate: () => Promise.resolve(ok(certificate)),
  dial: () => dialLoopback(port),
  memory: new HeldMemory(HELD_LIMIT_BYTES),
})
const target = {
  sourceIdentity: certificate.identity,
  sourceIp: LOOPBACK,
  destination: { address: LOOPBACK, port },
  expectedIdentities: [waypointIdentity],
}

process.stdin.on('end', () => process.exit(0)).resume()
console.log(`ready ${port}`)
for (let round = 0; ; round += 1) {
  const bytes = floods[round % floods.length]
  const opened = await pool.open(
    target,
    formatSocketAddress(TARGET),
    {},
    AbortSignal.timeout(OPEN_MS),
  )
  if (!opened.ok || bytes === undefined) {
    await pause(RETRY_MS)
    continue
  }
  const { tunnel } = opened.value
  tunnel.on('error', () => undefined)
  tunnel.resume().write(bytes)
  await new Promise((resolve) => tunnel.once('close', resolve))
}
