// SPDX-License-Identifier: Apache-2.0
// A data-plane worker as small as can be: opens upstream sockets and says what came back.

import { Socket } from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'
import { createDataPlaneSockets } from '../../../agent/capture/data-plane-sockets.ts'
import type { DataPlaneHandles } from '../../../agent/capture/index.ts'
import type { IpAddress } from '../../../mesh/model/types.ts'
import { connectSocket } from '../../../native/libc.ts'

export interface UpstreamRequest {
  readonly netnsFd: number
  readonly address: string
  readonly port: number
  readonly sourceIp?: IpAddress
  /** Send FIN before the application does. */
  readonly closeFirst?: boolean
}

const sockets = createDataPlaneSockets(workerData as DataPlaneHandles)

function fetch(request: UpstreamRequest): Promise<string> {
  const { netnsFd, address, port, sourceIp } = request
  const opened = sockets.openUpstream({
    netnsFd,
    family: address.includes(':') ? 6 : 4,
    ...(sourceIp !== undefined && { sourceIp }),
  })
  if (!opened.ok) return Promise.resolve(opened.error.message)
  const fd = opened.value
  try {
    connectSocket(fd, address, port)
  } catch (thrown) {
    return Promise.resolve(thrown instanceof Error ? thrown.message : String(thrown))
  }
  return new Promise((resolve) => {
    const socket = new Socket({ fd })
    let text = ''
    socket.on('data', (data) => {
      text += data.toString()
    })
    socket.once('error', (error) => resolve('code' in error ? String(error.code) : error.message))
    socket.once('end', () => resolve(text))
    if (request.closeFirst === true) socket.end()
  })
}

parentPort?.on('message', (request: UpstreamRequest) => {
  void fetch(request).then((answer) => parentPort?.postMessage(answer))
})
