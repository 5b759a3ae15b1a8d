// SPDX-License-Identifier: Apache-2.0
// A port that pods can reach, when a crowd takes every connection there may be.

import t from 'tap'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { boundConnections } from '../../mesh/program/bounded-connections.ts'

void t.test('a crowd of many addresses does not keep the next one out', async (t) => {
  const server = createServer((_request, response) => response.end('here'))
  boundConnections(server, 3)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close().closeAllConnections())
  const { port } = server.address() as AddressInfo
  const knock = async (localAddress: string): Promise<Socket> => {
    const socket = connect({ host: '127.0.0.1', port, localAddress })
    t.teardown(() => socket.destroy())
    socket.on('error', () => undefined)
    await once(socket, 'connect')
    return socket
  }
  const oldest = await knock('127.0.1.1')
  const oldestIsCut = once(oldest.resume(), 'close')
  await knock('127.0.1.2')
  await knock('127.0.1.3')
  const kubelet = await knock('127.0.0.1')
  kubelet.write('GET /healthz HTTP/1.0\r\n\r\n')
  t.match(String((await once(kubelet, 'data'))[0]), /^HTTP\/1\.1 200/)
  await oldestIsCut
})
