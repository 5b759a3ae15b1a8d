// SPDX-License-Identifier: Apache-2.0
// What is made in a pod's namespace for its enrolment, and what is left of it when a step fails.

import { readdirSync } from 'node:fs'
import t from 'tap'
import { preparePodNetwork } from '../../agent/capture/pod-network.ts'
import type { CapturePod } from '../../agent/capture/types.ts'
import { closeFd } from '../../native/libc.ts'
import { NetnsThread } from '../../native/netns.ts'
import type { SocketSpec } from '../../native/socket-spec.ts'
import { missing } from '../helpers.ts'

const POD: CapturePod = {
  uid: 'uid-a',
  namespace: 'shop',
  name: 'catalog',
  netnsPath: '/proc/self/ns/net',
  addresses: [],
  failOpen: false,
}

/** A pod whose loopback, and so its IPv6, is not up yet, and that lets nobody set it up. */
class StubbornThread extends NetnsThread {
  /** Sockets that were made in it. */
  made = 0

  override async openSocket(fd: number, spec: Omit<SocketSpec, 'netns'>): Promise<number> {
    // There is no capture, and so no map to exempt them in.
    const { exemptInMapFd: _, ...plain } = spec
    const socket = await super.openSocket(fd, plain)
    this.made += 1
    return socket
  }

  override keep(): Promise<never> {
    return Promise.reject(new Error('loopback cannot be set up'))
  }
}

void t.test(
  'nothing that was made stays open where loopback cannot be set up',
  { skip: missing('root') },
  async (t) => {
    const thread = new StubbornThread()
    const netns = await thread.create()
    t.teardown(async () => {
      closeFd(netns)
      await thread.close()
    })
    const before = readdirSync('/proc/self/fd').length
    await t.rejects(preparePodNetwork(thread, netns, POD, -1), /loopback cannot be set up/)
    t.ok(thread.made >= 3, 'listeners had been made')
    t.equal(readdirSync('/proc/self/fd').length, before)
  },
)
