// SPDX-License-Identifier: Apache-2.0
// `host:port` as people write it in flags: a name or an address, IPv6 in brackets.

export interface HostPort {
  readonly host: string
  /** 0 lets the kernel choose, where something listens. */
  readonly port: number
}

const HOST_PORT = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/

/** Reads `host:port` or `[IPv6]:port`; undefined for anything else, also for an IPv6 address without brackets. */
export function parseHostPort(text: string): HostPort | undefined {
  const match = HOST_PORT.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  return host === undefined || port > 65_535 ? undefined : { host, port }
}

/** Writes it as it is read. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
