// SPDX-License-Identifier: Apache-2.0
// Which application protocol a service port speaks, by its appProtocol or, failing that, its name (`http-web`).

import type { AppProtocol } from '../../mesh/model/types.ts'

const BY_WORD: ReadonlyMap<string, AppProtocol> = new Map([
  ['http', 'http1'],
  ['http2', 'http2'],
  ['h2c', 'http2'],
  ['kubernetes.io/h2c', 'http2'],
  ['kubernetes.io/ws', 'http1'],
  ['grpc', 'grpc'],
  ['grpc-web', 'http1'],
  ['tcp', 'tcp'],
  ['mongo', 'tcp'],
  ['mysql', 'tcp'],
  ['redis', 'tcp'],
  ['tls', 'tls'],
  ['https', 'tls'],
  ['kubernetes.io/wss', 'tls'],
])

/** The protocol of a port; unknown when nothing says. */
export function appProtocolOf(appProtocol: string, portName: string): AppProtocol {
  if (appProtocol !== '') return BY_WORD.get(appProtocol.toLowerCase()) ?? 'unknown'
  const name = portName.toLowerCase()
  return BY_WORD.get(name) ?? BY_WORD.get(prefix(name)) ?? 'unknown'
}

function prefix(name: string): string {
  if (name.startsWith('grpc-web-')) return 'grpc-web'
  const dash = name.indexOf('-')
  return dash < 0 ? name : name.slice(0, dash)
}
