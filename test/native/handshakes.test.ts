// SPDX-License-Identifier: Apache-2.0
// What the kernel has of connections before accept(): told in a namespace whose firewall keeps a handshake from its end.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { closeFd } from '../../native/libc.ts'
import { listenInNetns, NetnsThread } from '../../native/netns.ts'
import { waitingConnections } from '../../native/tcp-state.ts'
import { missing } from '../helpers.ts'
import { until } from '../support/until.ts'

const skip = missing('root')
const PORT = 15_999

for (const [family, address] of [
  ['IPv4', '127.0.0.1'],
  ['IPv6', '::1'],
] as const)
  void t.test(
    `an ${family} handshake is listed while it lasts, then the connection waits`,
    { skip },
    async (t) => {
      const thread = new NetnsThread()
      const fd = await thread.create()
      const worker = new Worker(new URL('handshakes-worker.ts', import.meta.url))
      t.teardown(async () => {
        await worker.terminate()
        closeFd(fd)
        await thread.close()
      })
      const inside = ['nsenter', `--net=/proc/${process.pid}/fd/${fd}`] as const
      const run = async (...argv: readonly string[]): Promise<void> => {
        await promisify(execFile)(inside[0], [inside[1], ...argv])
      }
      const handshakes = async (): Promise<ReadonlySet<string>> => {
        worker.postMessage(fd)
        const [found] = (await once(worker, 'message')) as [ReadonlySet<string>]
        return found
      }
      await run('ip', 'link', 'set', 'lo', 'up')
      const listener = await listenInNetns({ netns: fd, address, port: PORT }, thread)
      t.teardown(() => closeFd(listener))
      t.same([...(await handshakes())], [])
      await run(
        'nft',
        `table inet t { chain c { type filter hook input priority 0; tcp dport ${PORT} tcp flags & (syn | ack) == ack drop; }; }`,
      )
      const client = spawn(inside[0], [
        inside[1],
        'bash',
        '-c',
        `exec 3<>/dev/tcp/${address}/${PORT}; echo open; echo word >&3; read -r`,
      ])
      t.teardown(() => client.kill('SIGKILL'))
      await once(client.stdout, 'data')
      t.equal((await handshakes()).size, 1, 'the client is connected, the server is not')
      t.equal(waitingConnections(listener), 0)
      await run('nft', 'delete table inet t')
      // What the client sends again brings the acknowledgement.
      await until(() => waitingConnections(listener) === 1, 'the connection')
      t.same([...(await handshakes())], [])
    },
  )
