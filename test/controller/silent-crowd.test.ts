// SPDX-License-Identifier: Apache-2.0
// Given a controller as a process of its own, when one address opens thousands of connections and says nothing, then agents get
// certificates and discovery as before, the process stays small, and all is back when the crowd is gone.

import t from 'tap'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { descriptorLimit } from '../../mesh/program/descriptor-limit.ts'
import { until } from '../support/until.ts'
import { runController } from './controller-process.ts'
import { follow } from './follow.ts'
import { smallCluster } from './small-cluster.ts'

const CATALOG = 'spiffe://cluster.local/ns/shop/sa/catalog'
/** As many as an address has ports for, or this process descriptors. */
const CROWD = Math.min(20_000, descriptorLimit() - 1_000)
/** Under way at once, so that the crowd comes as fast as it can and no faster. */
const BATCH = 200
/** What the crowd may cost; 20,000 connections cost 460 MB before they were bounded. */
const MOST_MIB = 100
const MOST_DESCRIPTORS = 60

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test('a silent crowd', async (t) => {
  const cluster = await smallCluster(t)
  const agent = await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b')
  await cluster.pod('shop', 'catalog', 'catalog', 'node-b')
  const running = runController(t, cluster)
  await running.logged('controller started')
  const grpcPort = Number(/"grpcPort":(\d+)/.exec(running.output())?.[1])
  const published = await cluster.publishedRoot('shop', () => true)
  const controller = { grpcPort, rootsPem: published.data?.['root-cert.pem'] ?? '' }
  const token = await cluster.tokenFile(agent)
  t.match(await cluster.ask(controller, token, CATALOG), { ok: true }, 'before the crowd')
  const pid = running.process.pid ?? 0
  const quiet = { rss: residentMib(pid), descriptors: descriptors(pid) }

  const crowd: Socket[] = []
  t.teardown(() => crowd.forEach((socket) => socket.destroy()))
  while (crowd.length < CROWD) {
    const batch = Array.from({ length: BATCH }, () => {
      const socket = connect({ host: '127.0.0.1', port: grpcPort, localAddress: '127.0.0.2' })
      // Being cut is what it came for.
      socket.on('error', () => undefined)
      return socket
    })
    crowd.push(...batch)
    await Promise.all(batch.map((socket) => once(socket, 'connect')))
  }
  t.match(await cluster.ask(controller, token, CATALOG), { ok: true }, 'a certificate')
  await follow(t, cluster, controller, token).synced
  t.pass('discovery')
  const alive = crowd.filter((socket) => !socket.destroyed && !socket.readableEnded)
  t.comment(`${crowd.length} came, ${residentMib(pid)} MiB, ${descriptors(pid)} descriptors`)
  t.ok(descriptors(pid) <= quiet.descriptors + MOST_DESCRIPTORS, 'descriptors')
  t.ok(residentMib(pid) <= quiet.rss + MOST_MIB, 'memory')
  t.match(running.output(), /"reason":"its address has too many that never made a call/)
  const lines = running.output().match(/cut a connection to the gRPC port/g) ?? []
  t.ok(lines.length < 100, 'and the log is not full of it')

  for (const socket of alive) socket.destroy()
  // Its other descriptors are none of the crowd's: it may have met the API server again meanwhile.
  const served = (): number => connectionsAt(pid, grpcPort)
  t.ok(served() >= 1, 'discovery is one of them')
  await until(
    () => served() <= 2,
    () => `the crowd's descriptors to come back; ${served()} connections are there`,
  )
  t.pass('all descriptors are back')
})

function residentMib(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Math.round(Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024)
}

function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

/** How many descriptors of the process are connections to its port (proc(5), /proc/net/tcp). */
function connectionsAt(pid: number, port: number): number {
  const local = port.toString(16).toUpperCase().padStart(4, '0')
  const listening = '0A'
  const inodes = new Set<string>()
  for (const table of ['tcp', 'tcp6'])
    for (const line of readFileSync(`/proc/${pid}/net/${table}`, 'utf8').split('\n').slice(1)) {
      const [, at, , state, , , , , , inode] = line.trim().split(/\s+/)
      if (at?.endsWith(`:${local}`) === true && state !== listening && inode !== undefined)
        inodes.add(`socket:[${inode}]`)
    }
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return inodes.has(readlinkSync(`/proc/${pid}/fd/${fd}`))
    } catch {
      return false // closed since it was listed
    }
  }).length
}
