// SPDX-License-Identifier: Apache-2.0
// An agent reduced to capture: enrols when asked, and answers each captured connection with what it knows of it.

import { readdirSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { Worker } from 'node:worker_threads'
import {
  type CapturePod,
  type DataPlaneSockets,
  type Enrolment,
  type NodeCapture,
  openCapture,
} from '../../../agent/capture/index.ts'
import type { NetworkReport } from '../../../agent/capture/types.ts'
import { createDataPlaneSockets } from '../../../agent/capture/data-plane-sockets.ts'
import type { AmbitError } from '../../../mesh/errors.ts'
import { createLogger } from '../../../mesh/telemetry/log.ts'
import { closeFd } from '../../../native/libc.ts'
import { helperFeature, REQUIRED_FEATURES } from '../../../native/kernel-features.ts'
import { serveRpc } from './rpc.ts'
import type { UpstreamRequest } from './upstream-worker.ts'

export interface OpenRequest {
  readonly cgroupPath: string
  readonly bpffsDir: string
  readonly bpfObjectPath: string
  readonly kubeletCgroups?: readonly string[]
  readonly libbpf?: string
  /** Ask the kernel for a helper that no kernel has. */
  readonly wantImpossible?: boolean
  /** False: as if the kernel had no BPF_F_PREORDER. */
  readonly mayPreorder?: boolean
  /** Programs of another layout stay until `supersede`. */
  readonly supersedesLater?: boolean
}

/** A failure as data. */
export interface Failure {
  readonly code: string
  readonly message: string
}

let capture: NodeCapture | undefined
let dataPlane: DataPlaneSockets | undefined
let worker: Worker | undefined
const enrolments = new Map<string, { enrolment: Enrolment; servers: readonly Server[] }>()

const reports: ({ readonly uid: string } & NetworkReport)[] = []
const waiting = new Set<() => void>()

function need(): NodeCapture {
  if (capture === undefined) throw new Error('capture is not open')
  return capture
}

function failure(error: AmbitError): Failure {
  return { code: error.code, message: error.message }
}

/** The descriptor of an accepted socket. */
function fdOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle')
  return Number(Reflect.get(Object(handle), 'fd'))
}

function answerOutbound(socket: Socket): void {
  socket.on('error', () => socket.destroy())
  const destination = dataPlane?.originalDestination(fdOf(socket))
  if (destination === undefined) socket.resetAndDestroy()
  else {
    const { address, port, hasOwnPort, asked } = destination
    const more = `${hasOwnPort === true ? ' from its own port' : ''}${asked === undefined ? '' : ` ${JSON.stringify(asked)}`}`
    socket.end(`captured ${address} ${port}${more}`)
  }
}

function answerInbound(kind: string, socket: Socket): void {
  socket.on('error', () => socket.destroy())
  socket.end(`${kind} ${socket.localAddress} ${socket.localPort} from ${socket.remoteAddress}`)
}

function serve(fds: readonly number[], answer: (socket: Socket) => void): Server[] {
  return fds.map((fd) => createServer({ allowHalfOpen: true }, answer).listen({ fd }))
}

function stopServers(uid: string): Promise<unknown> {
  const servers = enrolments.get(uid)?.servers ?? []
  enrolments.delete(uid)
  return Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
}

function closeListeners({ listeners }: Enrolment): void {
  for (const fds of Object.values(listeners) as (readonly number[])[])
    for (const fd of fds) closeFd(fd)
}

/** Listeners that are served in place of those before. */
interface Served {
  readonly cookie: string
  readonly listeners: number
}

let carried = Promise.withResolvers<undefined>()

async function serveAll(enrolment: Enrolment): Promise<Served> {
  const { outbound, inbound, hbone } = enrolment.listeners
  const servers = [
    ...serve(outbound, answerOutbound),
    ...serve(inbound, (socket) => answerInbound('plaintext', socket)),
    ...serve(hbone, (socket) => answerInbound('hbone', socket)),
  ]
  const { uid } = enrolment.pod
  const former = stopServers(uid)
  enrolments.set(uid, { enrolment, servers })
  await former
  return { cookie: enrolment.netnsCookie.toString(), listeners: servers.length }
}

serveRpc({
  setuid: (uid: number) => process.setuid?.(uid),
  open: async (request: OpenRequest): Promise<Failure | undefined> => {
    const opened = await openCapture({
      ...request,
      kubeletCgroups: request.kubeletCgroups ?? [],
      logger: createLogger('capture', 'warn'),
      ...(request.wantImpossible === true && {
        requiredFeatures: [
          ...REQUIRED_FEATURES,
          helperFeature('a helper of the future', '99.0', 60_000),
        ],
      }),
    })
    if (!opened.ok) return failure(opened.error)
    capture = opened.value
    capture.onNetworkReport((uid, report) => {
      reports.push({ uid, ...report })
      for (const check of waiting) check()
    })
    dataPlane = createDataPlaneSockets(capture.dataPlaneHandles)
    return undefined
  },
  supersede: (): Failure | undefined => {
    const done = need().supersede()
    return done.ok ? undefined : failure(done.error)
  },
  isSuperseded: (): boolean => need().isSuperseded(),
  enrol: async (pod: CapturePod): Promise<Failure | Served> => {
    const result = await need().enrol(pod)
    return result.ok ? await serveAll(result.value) : failure(result.error)
  },
  leave: async (pod: CapturePod): Promise<Failure | Served> => {
    const result = await need().leave(pod, carried.promise)
    return result.ok ? await serveAll(result.value) : failure(result.error)
  },
  /** What a pod that has left had open is over. */
  carried: async (uid: string) => {
    carried.resolve(undefined)
    carried = Promise.withResolvers()
    await new Promise((resolve) => setImmediate(resolve))
    // The pod's steps come one after the other: when this one is done, so is what it began.
    await need().withdraw(uid)
  },
  /** Closes the listeners and stays alive otherwise: what the pod sees when the agent is gone. */
  closeListeners: (uid: string) => stopServers(uid).then(() => undefined),
  withdraw: async (uid: string) => {
    await need().withdraw(uid)
    // What is in the accept queues is answered first: two turns of the event loop take it all.
    for (let turn = 0; turn < 2; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    await stopServers(uid)
  },
  sweep: (keep: readonly string[]) => need().sweep(new Set(keep)),
  closeCapture: async (unpin: boolean) => {
    for (const uid of [...enrolments.keys()]) {
      if (unpin) await need().withdraw(uid)
      await stopServers(uid)
    }
    await worker?.terminate()
    worker = undefined
    await need().close({ unpin })
    capture = undefined
  },
  counters: () => need().counters(),
  /** What has been told of pods' networks since the last call. */
  reports: () => reports.splice(0),
  /** The things that the first report of one of these kinds on this pod names, from now on or since the last call. */
  reported: ({ uid, kinds }: { uid: string; kinds: readonly string[] }) =>
    new Promise<readonly string[]>((resolve) => {
      const check = (): void => {
        const index = reports.findIndex(
          (report) => report.uid === uid && kinds.includes(report.kind),
        )
        if (index < 0) return
        waiting.delete(check)
        resolve(reports.splice(index, 1)[0]?.what ?? [])
      }
      waiting.add(check)
      check()
    }),
  stats: () => need().stats(),
  openFds: () => readdirSync('/proc/self/fd').length,
  upstream: async (request: Omit<UpstreamRequest, 'netnsFd'> & { readonly uid: string }) => {
    const netnsFd = enrolments.get(request.uid)?.enrolment.netnsFd
    worker ??= new Worker(new URL('./upstream-worker.ts', import.meta.url), {
      workerData: need().dataPlaneHandles,
      trackUnmanagedFds: false,
    })
    const thread = worker
    return new Promise<string>((resolve) => {
      thread.once('message', resolve)
      thread.postMessage({ ...request, netnsFd })
    })
  },
  upstreamOnMain: (uid: string) => {
    const netnsFd = enrolments.get(uid)?.enrolment.netnsFd ?? -1
    const opened = dataPlane?.openUpstream({ netnsFd, family: 4 })
    return opened?.ok === false ? opened.error.message : 'opened'
  },
  /** Enrols all, one after the other, and keeps them; gives the time of each in ms. */
  enrolAll: async (pods: readonly CapturePod[]) => {
    const times: number[] = []
    for (const pod of pods) {
      const start = performance.now()
      const result = await need().enrol(pod)
      times.push(performance.now() - start)
      if (!result.ok) throw result.error
    }
    return times
  },
  /** Enrols and withdraws the pods in turn, this many rounds; gives the time of each enrolment in ms. */
  rounds: async ({ pods, count }: { pods: readonly CapturePod[]; count: number }) => {
    const times: number[] = []
    for (let round = 0; round < count; round += 1) {
      const pod = pods[round % pods.length]
      if (pod === undefined) throw new Error('no pods')
      const start = performance.now()
      const result = await need().enrol(pod)
      times.push(performance.now() - start)
      if (!result.ok) throw result.error
      await need().withdraw(pod.uid)
      closeListeners(result.value)
    }
    return times
  },
})
