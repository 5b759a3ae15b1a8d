// SPDX-License-Identifier: Apache-2.0
// A data-plane worker as small as can be: opens upstream sockets and says what came back.

import { parentPort, workerData } from 'node:worker_threads'
import { createDataPlaneSockets } from '../../../agent/capture/data-plane-sockets.ts'
import type { DataPlaneHandles } from '../../../agent/capture/index.ts'
import { FIRST_PORT, SourcePorts } from '../../../agent/proxy/source-ports.ts'
import { connectUpstream } from '../../../agent/proxy/upstream.ts'
import type { IpAddress } from '../../../mesh/model/types.ts'

export interface UpstreamRequest {
  readonly netnsFd: number
  readonly address: IpAddress
  readonly port: number
  readonly sourceIp?: IpAddress
  /** The even port to begin with; an arbitrary one otherwise. */
  readonly sourcePort?: number
  /** Send FIN before the application does. */
  readonly closeFirst?: boolean
}

const sockets = createDataPlaneSockets(workerData as DataPlaneHandles)
const ports = new SourcePorts()

/** Ports one after the other, from this one on. */
function portsFrom(first: number): SourcePorts {
  const isFirst = { value: true }
  return new SourcePorts(() => {
    const start = (first - FIRST_PORT) / 2 - 1
    const random = isFirst.value ? start / 16_384 : 0
    isFirst.value = false
    return random
  })
}

async function fetch(request: UpstreamRequest): Promise<string> {
  const { netnsFd, address, port, sourceIp, sourcePort } = request
  const opened = await connectUpstream(
    sockets,
    {
      netnsFd,
      destination: { address, port },
      timeoutMs: 5_000,
      ...(sourceIp !== undefined && {
        from: {
          whose: 'client',
          address: sourceIp,
          ports: sourcePort === undefined ? ports : portsFrom(sourcePort),
          clientPort: sourcePort === undefined ? undefined : sourcePort + 1,
        },
      }),
    },
    new AbortController().signal,
  )
  if (!opened.ok) return opened.error.message
  return new Promise((resolve) => {
    const socket = opened.value
    let text = ''
    socket.on('data', (data) => {
      text += data.toString()
    })
    socket.once('error', (error) => resolve('code' in error ? String(error.code) : error.message))
    socket.once('end', () => {
      resolve(text)
      socket.end()
    })
    if (request.closeFirst === true) socket.end()
  })
}

parentPort?.on('message', (request: UpstreamRequest) => {
  void fetch(request).then((answer) => parentPort?.postMessage(answer))
})
