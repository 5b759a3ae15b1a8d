// SPDX-License-Identifier: Apache-2.0
// The rival and the application of the HBONE bench: haproxy as a pair of mutual-TLS relays, and as an HTTP server.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { WorkloadCertificate } from '../mesh/identity/types.ts'

const GLOBAL = `global
  nbthread 1
  maxconn 4000
defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
`

const writePem = (folder: string, name: string, certificate: WorkloadCertificate): string => {
  const file = join(folder, `${name}.pem`)
  writeFileSync(file, `${certificate.chainPem}\n${certificate.privateKeyPem}\n`, { mode: 0o600 })
  return file
}

export interface RivalPorts {
  readonly plain: number
  readonly secured: number
  readonly upstream: number
}

/** Writes the configurations of both relays, TLS 1.3 with AES-128-GCM as ours; returns their paths. */
export function writeRivals(
  folder: string,
  ports: RivalPorts,
  client: WorkloadCertificate,
  server: WorkloadCertificate,
): { readonly outbound: string; readonly inbound: string } {
  mkdirSync(folder, { recursive: true })
  const root = join(folder, 'root.pem')
  writeFileSync(root, client.rootsPem)
  const clientPem = writePem(folder, 'client', client)
  const serverPem = writePem(folder, 'server', server)
  const tls = `ca-file ${root} verify required`
  const suites = 'ciphersuites TLS_AES_128_GCM_SHA256 ssl-min-ver TLSv1.3'
  const outbound = join(folder, 'outbound.cfg')
  writeFileSync(
    outbound,
    `${GLOBAL}  mode tcp
listen outbound
  bind 127.0.0.1:${ports.plain}
  server far 127.0.0.1:${ports.secured} ssl crt ${clientPem} ${tls} ${suites}
`,
  )
  const inbound = join(folder, 'inbound.cfg')
  writeFileSync(
    inbound,
    `${GLOBAL}  mode tcp
listen inbound
  bind 127.0.0.1:${ports.secured} ssl crt ${serverPem} ${tls} ${suites}
  server app 127.0.0.1:${ports.upstream}
`,
  )
  return { outbound, inbound }
}

/** Writes the configuration of a plain TCP relay; returns its path. */
export function writeTcpRival(file: string, listen: number, upstream: number): string {
  writeFileSync(
    file,
    `${GLOBAL}  mode tcp
listen relay
  bind 127.0.0.1:${listen}
  server app 127.0.0.1:${upstream}
`,
  )
  return file
}

/** Writes the configuration of an HTTP server that answers each request with `bytes` bytes. */
export function writeApp(folder: string, port: number, bytes: number): string {
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `app-${bytes}.cfg`)
  writeFileSync(
    file,
    `${GLOBAL}  mode http
frontend app
  bind 127.0.0.1:${port}
  http-request return status 200 content-type text/plain string "${'x'.repeat(bytes)}"
`,
  )
  return file
}
