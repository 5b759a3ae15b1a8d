// SPDX-License-Identifier: Apache-2.0
// A data-plane worker as small as can be: opens upstream sockets and says what came back.

import { Socket } from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'
import { createDataPlaneSockets, type DataPlaneHandles } from '../../../agent/capture/index.ts'
import type { IpAddress } from '../../../mesh/model/types.ts'
import { connectSocket } from '../../../native/libc.ts'

export interface UpstreamRequest {
  readonly netnsFd: number
  readonly address: string
  readonly port: number
  readonly sourceIp?: IpAddress
}

const sockets = createDataPlaneSockets(workerData as DataPlaneHandles)

function fetch({ netnsFd, address, port, sourceIp }: UpstreamRequest): Promise<string> {
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
  })
}

parentPort?.on('message', (request: UpstreamRequest) => {
  void fetch(request).then((answer) => parentPort?.postMessage(answer))
})
