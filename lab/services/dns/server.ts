// SPDX-License-Identifier: Apache-2.0
// Serves the cluster's DNS zone over UDP and TCP on given addresses. Malformed messages are dropped, as a
// resolver must; it forwards nothing to anywhere.

import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type Server, type Socket as TcpSocket } from 'node:net'
import { decode, encode, type Answer, type Packet } from 'dns-packet'
import type { ServiceIndex } from '../kube-view.ts'
import { answer, CLUSTER_DOMAIN, TTL_SECONDS, type ZoneRecord } from './zone.ts'

/** RFC 1035 4.2.1: the most that a plain UDP answer may hold; longer ones are cut and asked again by TCP. */
const MAX_UDP_BYTES = 512
/** RFC 7766 6.2.3 asks for a few seconds; an idle client connection is closed after this. */
const TCP_IDLE_MS = 10_000
const AUTHORITATIVE_ANSWER = 1 << 10
const TRUNCATED = 1 << 9
const RECURSION_DESIRED = 1 << 8
const RECURSION_AVAILABLE = 1 << 7
const RCODE_NXDOMAIN = 3
const RCODE_NOTIMP = 4

export interface DnsServer {
  close(): Promise<void>
}

/** Listens on port 53 (or another) of each host. */
export async function startDnsServer(options: {
  readonly index: ServiceIndex
  readonly hosts: readonly string[]
  readonly port?: number
}): Promise<DnsServer> {
  const port = options.port ?? 53
  const udp = await Promise.all(options.hosts.map((host) => listenUdp(host, port, options.index)))
  const connections = new Set<TcpSocket>()
  const tcp = await Promise.all(
    options.hosts.map((host) => listenTcp(host, port, options.index, connections)),
  )
  return {
    async close(): Promise<void> {
      for (const connection of connections) connection.destroy()
      await Promise.all([
        ...udp.map(async (socket) => {
          const closed = once(socket, 'close')
          socket.close()
          await closed
        }),
        ...tcp.map(async (server) => {
          const closed = once(server, 'close')
          server.close()
          await closed
        }),
      ])
    },
  }
}

/** Answers one message, or gives nothing for what is not a question. */
export function respond(
  index: ServiceIndex,
  message: Buffer,
  transport: 'udp' | 'tcp',
): Buffer | undefined {
  const query = parse(message)
  const question = query?.questions?.[0]
  if (query === undefined || query.type !== 'query' || question === undefined) return undefined
  const base: Packet = {
    type: 'response',
    id: query.id ?? 0,
    questions: [question],
  }
  const flags = ((query.flags ?? 0) & RECURSION_DESIRED) | RECURSION_AVAILABLE
  // dns-packet keeps the opcode in the flags' bits 11 to 14; only QUERY (0) is served.
  if ((((query.flags ?? 0) >> 11) & 0xf) !== 0)
    return encode({ ...base, flags: flags | RCODE_NOTIMP })
  const found = answer(index, question.name, question.type)
  const reply: Packet = {
    ...base,
    flags: flags | AUTHORITATIVE_ANSWER | (found.code === 'NXDOMAIN' ? RCODE_NXDOMAIN : 0),
    answers: found.records.map(toAnswer),
    authorities: found.records.length === 0 ? [startOfAuthority()] : [],
  }
  const encoded = encode(reply)
  const limit = transport === 'udp' ? udpLimit(query) : Number.POSITIVE_INFINITY
  if (encoded.length <= limit) return encoded
  return encode({ ...base, flags: flags | AUTHORITATIVE_ANSWER | TRUNCATED })
}

function parse(message: Buffer): Packet | undefined {
  try {
    return decode(message)
  } catch {
    return undefined // not DNS: dropped
  }
}

function udpLimit(query: Packet): number {
  const option = query.additionals?.find((record) => record.type === 'OPT')
  if (option?.type !== 'OPT') return MAX_UDP_BYTES
  return Math.max(MAX_UDP_BYTES, option.udpPayloadSize)
}

function toAnswer(record: ZoneRecord): Answer {
  const { name } = record
  if (record.type !== 'SRV') return { type: record.type, name, ttl: TTL_SECONDS, data: record.data }
  const { port, target } = record.data
  return { type: 'SRV', name, ttl: TTL_SECONDS, data: { port, target, priority: 0, weight: 100 } }
}

/** RFC 2308: a negative answer carries the zone's SOA, whose minimum says how long it may be kept. */
function startOfAuthority(): Answer {
  return {
    type: 'SOA',
    name: CLUSTER_DOMAIN,
    ttl: TTL_SECONDS,
    data: {
      mname: `ns.dns.${CLUSTER_DOMAIN}`,
      rname: `hostmaster.${CLUSTER_DOMAIN}`,
      serial: 1,
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: TTL_SECONDS,
    },
  }
}

async function listenUdp(host: string, port: number, index: ServiceIndex): Promise<Socket> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  socket.on('message', (message, peer) => {
    const reply = respond(index, message, 'udp')
    if (reply !== undefined) socket.send(reply, peer.port, peer.address)
  })
  const listening = once(socket, 'listening')
  socket.bind(port, host)
  await listening
  return socket
}

async function listenTcp(
  host: string,
  port: number,
  index: ServiceIndex,
  connections: Set<TcpSocket>,
): Promise<Server> {
  const server = createServer((socket) => {
    connections.add(socket)
    socket.on('close', () => connections.delete(socket))
    serveTcp(socket, index)
  })
  const listening = once(server, 'listening')
  server.listen(port, host)
  await listening
  return server
}

/** Messages on TCP follow one another, each after its length in two bytes. */
function serveTcp(socket: TcpSocket, index: ServiceIndex): void {
  let pending: Buffer = Buffer.alloc(0)
  socket.setTimeout(TCP_IDLE_MS, () => socket.destroy())
  socket.on('error', () => socket.destroy())
  socket.on('data', (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk])
    while (pending.length >= 2) {
      const end = 2 + pending.readUInt16BE(0)
      if (pending.length < end) return
      const reply = respond(index, pending.subarray(2, end), 'tcp')
      pending = pending.subarray(end)
      if (reply === undefined) {
        socket.destroy()
        return
      }
      const length = Buffer.alloc(2)
      length.writeUInt16BE(reply.length)
      socket.write(Buffer.concat([length, reply]))
    }
  })
}
