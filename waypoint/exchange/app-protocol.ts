// SPDX-License-Identifier: Apache-2.0
// Which version of HTTP an app is spoken to in. Pure.

import type { RequestMessage } from '../../mesh/http/message.ts'
import type { AppProtocol } from '../../mesh/model/gateway.ts'

export type HttpVersion = 'http1' | 'http2'

/** By what is declared of the app's port; where nothing is, by what its client speaks. Hot: once a request. */
export function versionFor(
  declared: AppProtocol,
  { protocol, isWebSocket }: Pick<RequestMessage, 'protocol' | 'isWebSocket'>,
  isGrpc: boolean,
): HttpVersion {
  // A WebSocket is begun by HTTP/1.1, and gRPC is HTTP/2 whatever the port is called.
  if (isWebSocket) return 'http1'
  if (isGrpc) return 'http2'
  switch (declared) {
    case 'http2':
    case 'grpc':
      return 'http2'
    case 'http1':
      return 'http1'
    case 'tcp':
    case 'tls':
    case 'unknown':
      return protocol === 'HTTP/2' ? 'http2' : 'http1'
  }
}
