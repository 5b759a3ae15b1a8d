// SPDX-License-Identifier: Apache-2.0
// What the kernel holds for a pod's listeners when capture ends is served before they close: what waits to be accepted,
// and handshakes under way, however long their clients' answers take.

import { connect } from 'node:net'
import t from 'tap'
import { until } from '../support/until.ts'
import { startAgent, testPod } from './loopback-world.ts'

const CLIENTS = 20
/** Looks at the handshakes that take longer than anything else which the end of a stay waits for. */
const LOOKS = 12

void t.test('handshakes under way at the end of capture are served', async (t) => {
  let isUnderWay = true
  let looks = 0
  const agent = await startAgent(t, {
    handshakes: () => {
      looks += 1
      return new Set(isUnderWay ? ['a client far away'] : [])
    },
  })
  const { pod, plaintext } = await agent.servePod(testPod('web'))
  const stopped = agent.ask({ kind: 'stopPod', uid: pod.uid, deadlineMs: 1 })
  await until(() => looks > LOOKS, 'looks at the handshakes')
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
