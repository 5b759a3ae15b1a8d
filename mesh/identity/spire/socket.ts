// SPDX-License-Identifier: Apache-2.0
// A gRPC client of a server that listens on a Unix socket of this machine, dialled anew when a connection has failed.

import { Client, credentials } from '@grpc/grpc-js'

/** The client of one socket. */
export class SocketClient {
  /** unix:///PATH */
  readonly socket: string
  #client: Client | undefined

  constructor(socket: string) {
    this.socket = socket
  }

  /** Dials where there is no connection. */
  client(): Client {
    this.#client ??= new Client(this.socket, credentials.createInsecure(), {
      // Nobody else's connection, and none of before.
      'grpc.use_local_subchannel_pool': 1,
      // Whoever calls tries again by itself.
      'grpc.enable_retries': 0,
      'grpc.service_config_disable_resolution': 1,
      // Of a Unix socket it would be its path, percent-encoded.
      'grpc.default_authority': 'localhost',
    })
    return this.#client
  }

  /** The connection that this client had is of no use: the next call is made over another. Calls that others have on it go on. */
  drop(client: Client): void {
    if (this.#client !== client) return
    this.#client = undefined
    client.close()
  }

  close(): void {
    this.#client?.close()
    this.#client = undefined
  }
}
