// SPDX-License-Identifier: Apache-2.0
// The thread that works in other network namespaces (setns is per thread, so never the main one). It answers one
// request at a time, and is at home whenever JavaScript runs: each native call enters and leaves.

import { closeSync, openSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { NativeError } from './error.ts'
import { closeFd, netnsCookieOfSocket } from './libc.ts'
import { roadTo, wiringOf } from './links.ts'
import type { NetnsReplies, NetnsReply, NetnsRequest, SysctlValue } from './netns-messages.ts'
import { deleteMarkRoute, keepNetns } from './rtnetlink.ts'
import { CALL_NAME_SIZE, loadShim, shimError } from './shim.ts'
import { openNetlinkSocket, openSocket } from './socket-spec.ts'

/** Sysctls capture touches hold one number. */
const SYSCTL_SIZE = 64

function answer(request: NetnsRequest, homeFd: number): NetnsReplies[keyof NetnsReplies] {
  switch (request.op) {
    case 'socket':
      return openSocket({ ...request.spec, netns: { fd: request.netnsFd, homeFd } })
    case 'cookie': {
      const fd = openSocket({ netns: { fd: request.netnsFd, homeFd }, family: 4, kind: 'udp' })
      try {
        return netnsCookieOfSocket(fd)
      } finally {
        closeFd(fd)
      }
    }
    case 'netlinkSocket':
      return openNetlinkSocket({ fd: request.netnsFd, homeFd }, 'route')
    case 'create': {
      const call = Buffer.alloc(CALL_NAME_SIZE)
      const fd = loadShim().netnsCreate(homeFd, call)
      if (fd < 0) throw shimError(fd, call, 'new network namespace')
      return fd
    }
    case 'wiring':
      return wiringOf({ fd: request.netnsFd, homeFd })
    case 'road':
      return roadTo(request.address)
    case 'sysctl':
      return request.values.map((sysctl) => exchangeSysctl(request.netnsFd, homeFd, sysctl))
    case 'keep':
      return keepNetns({ fd: request.netnsFd, homeFd }, request.families, request.route)
    case 'deleteMarkRoute':
      deleteMarkRoute({ fd: request.netnsFd, homeFd }, request.families, request.route)
      return undefined
  }
}

function exchangeSysctl(netnsFd: number, homeFd: number, sysctl: SysctlValue): SysctlValue {
  const call = Buffer.alloc(CALL_NAME_SIZE)
  const old = Buffer.alloc(SYSCTL_SIZE)
  const path = `/proc/sys/${sysctl.path}`
  const result = loadShim().netnsSysctl(netnsFd, homeFd, path, sysctl.value, old, SYSCTL_SIZE, call)
  if (result < 0) throw shimError(result, call, path)
  return { path: sysctl.path, value: old.toString('utf8', 0, old.indexOf(0)) }
}

function reply(id: number, request: NetnsRequest, homeFd: number): NetnsReply {
  try {
    return { id, ok: true, value: answer(request, homeFd) }
  } catch (thrown) {
    if (thrown instanceof NativeError)
      return {
        id,
        ok: false,
        failure: { call: thrown.call, errno: thrown.errno, detail: thrown.detail },
      }
    const detail = thrown instanceof Error ? thrown.message : String(thrown)
    return { id, ok: false, failure: { call: request.op, errno: undefined, detail } }
  }
}

if (parentPort !== null) {
  const port = parentPort
  const homeFd = openSync('/proc/thread-self/ns/net', 'r')
  port.on('message', (message: { readonly id: number; readonly request: NetnsRequest }) => {
    port.postMessage(reply(message.id, message.request, homeFd))
  })
  port.on('close', () => {
    closeSync(homeFd)
  })
}
