// SPDX-License-Identifier: Apache-2.0
// Where the server of the traffic stories listens; shared with its clients and with the manifests.

/** What a TCP port of the server does; see server.ts. */
export type Habit = 'echo' | 'greeter' | 'digest' | 'listener' | 'resetter' | 'sink'

export const TCP_PORTS: Readonly<Record<Habit, number>> = {
  echo: 7001,
  greeter: 7002,
  digest: 7003,
  listener: 7004,
  resetter: 7005,
  sink: 7006,
}

/** Nobody listens here. */
export const CLOSED_PORT = 7999
export const HTTP_PORT = 8080
export const UDP_PORT = 7053
/** Of words.ts, by what is spoken there. */
export const WORD_PORTS = { tcp: 7011, http1: 7012, http2: 7013 } as const
