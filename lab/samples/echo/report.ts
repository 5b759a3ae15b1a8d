// SPDX-License-Identifier: Apache-2.0
// What the workload of the conformance suite says of a call: lines of NAME=value, which the suite reads by these names.

/** One call, as the server saw it. */
export interface Call {
  readonly port: number
  readonly clientAddress: string
  /** As written in the request: the Host header, or gRPC's :authority. */
  readonly host: string
  readonly method: string
  readonly path: string
  readonly protocol: string
  /** In the order in which they came, doubles as often as they came. */
  readonly headers: readonly (readonly [name: string, value: string])[]
}

/** The lines for a call. */
export function report(call: Call, hostname: string): string {
  const lines: readonly (readonly [string, string])[] = [
    ['ServiceVersion', ''],
    ['ServicePort', String(call.port)],
    ['Host', call.host],
    ['URL', call.path],
    ['Method', call.method],
    ['Proto', call.protocol],
    ['IP', call.clientAddress.replace(/^::ffff:/, '')],
    ...call.headers.map(([name, value]) => ['RequestHeader', `${name}:${value}`] as const),
    ['Hostname', hostname],
  ]
  return lines.map(([name, value]) => `${name}=${value}\n`).join('')
}
