// SPDX-License-Identifier: Apache-2.0
// Asks for proofs from inside a node's namespace, whose routes and devices the proof rests on.

import { readdirSync } from 'node:fs'
import { netnsAt } from '../../agent/enrolment/netns-identity.ts'
import { netnsProver, type Claim } from '../../agent/enrolment/prove-netns.ts'
import { NetnsThread } from '../../native/netns.ts'
import { serveRpc } from '../capture/support/rpc.ts'

const thread = new NetnsThread()

serveRpc({
  /** Given the processes' ids, oldest first, the path of the namespace that is the pod's, or why there is none. */
  prove: async ({ claim, pids }: { claim: Claim; pids: readonly number[] }) => {
    const processes = await Promise.all(
      pids.map(async (pid, startTime) => {
        const netnsPath = `/proc/${pid}/ns/net`
        const identity = await netnsAt(netnsPath)
        if (identity === undefined) throw new Error(`process ${pid} has ended`)
        return { pid, startTime, netnsPath, identity }
      }),
    )
    const proven = await netnsProver(thread)(claim, processes)
    if (proven.ok) return proven.value.netnsPath
    return proven.error.kind === 'refused' ? proven.error.reason : proven.error.kind
  },
  openFds: () => Promise.resolve(readdirSync('/proc/self/fd').length),
})
