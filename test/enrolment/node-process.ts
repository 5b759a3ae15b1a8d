// SPDX-License-Identifier: Apache-2.0
// A node agent without a data plane: real capture, real CNI server, real enrolment, a small API server beside it.
// What is captured is answered with the destination that was asked for.

import { createServer, type Socket } from 'node:net'
import { type DataPlaneSockets, type NodeCapture, openCapture } from '../../agent/capture/index.ts'
import { createDataPlaneSockets } from '../../agent/capture/data-plane-sockets.ts'
import { startCniServer } from '../../agent/cni/index.ts'
import {
  netnsProver,
  startEnrolment,
  type EnrolledPod,
  type ServedPod,
} from '../../agent/enrolment/index.ts'
import { createKubeApi, type Event, NAMESPACES, PODS } from '../../mesh/kube/index.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { closeFd } from '../../native/libc.ts'
import { serveRpc } from '../capture/support/rpc.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { Waiter } from '../support/waiter.ts'

export interface NodeRequest {
  readonly cgroupPath: string
  readonly bpffsDir: string
  readonly bpfObjectPath: string
  readonly socketPath: string
  readonly stateDirectory: string
  /** The API server refuses everything, as if it were away. */
  readonly isApiAway: boolean
}

const stub = new FaultyApi()
const told: string[] = []
const waiter = new Waiter()
let sockets: DataPlaneSockets | undefined
let capture: NodeCapture | undefined

function tell(what: string): void {
  told.push(what)
  waiter.poke()
}

function answer(socket: Socket): void {
  socket.on('error', () => socket.destroy())
  const handle: unknown = Reflect.get(socket, '_handle')
  const destination = sockets?.originalDestination(Number(Reflect.get(Object(handle), 'fd')))
  if (destination === undefined) socket.resetAndDestroy()
  else socket.end(`captured ${destination.address} ${destination.port}`)
}

function serve({ name, enrolment }: EnrolledPod): ServedPod {
  const { outbound, inbound, hbone } = enrolment.listeners
  for (const fd of [...inbound, ...hbone]) closeFd(fd)
  const servers = outbound.map((fd) => createServer({ allowHalfOpen: true }, answer).listen({ fd }))
  tell(`enrolled ${name}`)
  return {
    serveAgain: () => Promise.reject(new Error('nothing is served again here')),
    drain: () => undefined,
    end: () => {
      for (const server of servers) server.close()
      tell('withdrawn')
      return Promise.resolve()
    },
  }
}

serveRpc({
  open: async (request: NodeRequest): Promise<string | undefined> => {
    const logger = createLogger('agent', 'error')
    const opened = await openCapture({ ...request, kubeletCgroups: [], logger })
    if (!opened.ok) return opened.error.message
    capture = opened.value
    sockets = createDataPlaneSockets(capture.dataPlaneHandles)
    await stub.start()
    if (request.isApiAway) stub.fail('GET', /./, Infinity, 503)
    const enrolment = await startEnrolment({
      api: createKubeApi(stub.access()),
      nodeName: 'node-a',
      capture,
      server: { serve: (pod) => Promise.resolve(serve(pod)) },
      nodeCgroup: request.cgroupPath,
      prove: netnsProver(capture.thread),
      stateDirectory: request.stateDirectory,
      logger,
      peersForgetMs: 3_600_000,
    })
    const { socketPath } = request
    const cni = await startCniServer({ socketPath, handlers: enrolment, logger })
    if (!request.isApiAway) await enrolment.synced
    return cni.ok ? undefined : cni.error.message
  },
  label: (labels: Record<string, string>) =>
    Promise.resolve(void stub.put(NAMESPACES, { metadata: { name: 'shop', labels } })),
  /** With an address it is one that the kubelet has started long ago. */
  pod: ({ name, uid, ip }: { name: string; uid: string; ip?: string }) =>
    Promise.resolve(
      void stub.put(PODS, {
        metadata: { namespace: 'shop', name, uid },
        spec: { containers: [{ name: 'app', image: 'app' }], nodeName: 'node-a' },
        ...(ip !== undefined && { status: { podIP: ip, podIPs: [{ ip }] } }),
      }),
    ),
  deletePod: (name: string) => Promise.resolve(void stub.remove(PODS, `shop/${name}`)),
  /** The messages of the events that pods were given, by pod. */
  events: () =>
    Promise.resolve(
      stub.requests
        .filter(({ method, url }) => method === 'POST' && url.pathname.endsWith('/events'))
        .map(({ body }) => JSON.parse(body) as Event)
        .map(({ involvedObject, message }) => `${involvedObject.name}: ${message}`),
    ),
  annotation: (name: string) =>
    Promise.resolve(
      stub.get(PODS, `shop/${name}`)?.metadata?.annotations?.['ambient.istio.io/redirection'],
    ),
  told: () => Promise.resolve(told),
  /** Sets the namespace's labels and waits for the data plane to be told; how long that took. */
  relabel: async ({ labels, what }: { labels: Record<string, string>; what: string }) => {
    const startedAt = performance.now()
    const already = told.length
    stub.put(NAMESPACES, { metadata: { name: 'shop', labels } })
    await waiter.until(
      () => told.slice(already).includes(what),
      () => `"${what}"; told: ${told.slice(already).join(', ')}`,
    )
    return performance.now() - startedAt
  },
})
