// SPDX-License-Identifier: Apache-2.0
// An HBONE server in a process that may have few file descriptors: fills them up and frees them as it is told on stdin, and says
// each refusal as a line of JSON.

import { closeSync, openSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { createHboneServer } from '../../mesh/hbone/server.ts'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { HboneSources } from '../../mesh/hbone/sources.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import { echo, listeningFd } from './harness.ts'

const certificate = JSON.parse(process.argv[2] ?? '{}') as WorkloadCertificate
const server = createHboneServer({
  certificate,
  isFromOutside: () => true,
  isKnownSource: () => false,
  sources: new HboneSources(),
  memory: new HeldMemory(HELD_LIMIT_BYTES),
  onTunnel: echo,
  onRefused: ({ reason }) => console.log(JSON.stringify({ reason })),
})
const { fd, port } = await listeningFd()
await server.listen({ fd })
const held: number[] = []
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'fill')
      for (;;) {
        try {
          held.push(openSync('/dev/null', 'r'))
        } catch {
          // A few are free: enough to accept with, too few to serve.
          for (const each of held.splice(-8)) closeSync(each)
          break
        }
      }
    if (line === 'free') for (const each of held.splice(0)) closeSync(each)
    console.log(JSON.stringify({ done: line }))
  })
  .on('close', () => process.exit(0))
console.log(JSON.stringify({ port }))
