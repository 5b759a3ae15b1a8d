// SPDX-License-Identifier: Apache-2.0
// What the kernel holds for a pod's listeners when capture ends is served before they close: what waits to be accepted,
// and handshakes under way, however long their clients' answers take.

import { connect } from 'node:net'
import t from 'tap'
import { until } from '../support/until.ts'
import { startAgent, testPod } from './loopback-world.ts'

const CLIENTS = 20
/** Longer than anything else which the end of a stay waits for. Milliseconds. */
const LONG_MS = 100

void t.test('handshakes under way at the end of capture are served', async (t) => {
  let isUnderWay = true
  let lookedAt = 0
  const agent = await startAgent(t, {
    handshakes: () => {
      lookedAt = performance.now()
      return new Set(isUnderWay ? ['a client far away'] : [])
    },
  })
  const { pod, plaintext } = await agent.servePod(testPod('web'))
  const stoppedAt = performance.now()
  const stopped = agent.ask({ kind: 'stopPod', uid: pod.uid, deadlineMs: 1 })
  // How many looks there are until then is the machine's affair.
  await until(() => lookedAt - stoppedAt > LONG_MS, 'a look at the handshakes so late')
  for (let client = 0; client < CLIENTS; client += 1) {
    const socket = connect({ port: plaintext.port, host: plaintext.address })
    // Who calls a port of the mesh itself is reset; that it was accepted is what counts here.
    socket.on('error', () => undefined)
    t.teardown(() => socket.destroy())
  }
  isUnderWay = false
  await stopped
  t.equal(agent.lines.length, CLIENTS, 'each was accepted')
})

void t.test('those that begin later are not waited for', async (t) => {
  let looks = 0
  const agent = await startAgent(t, { handshakes: () => new Set([`client ${(looks += 1)}`]) })
  const { pod } = await agent.servePod(testPod('web'))
  await agent.ask({ kind: 'stopPod', uid: pod.uid, deadlineMs: 1 })
  t.equal(looks, 2, 'the first is not there any more')
})
