// SPDX-License-Identifier: Apache-2.0
// The rival: two haproxy processes that relay TCP over mutual TLS 1.3 with the same cipher suite as ours, one thread each.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createKeyAndCsr } from '../mesh/identity/csr.ts'
import { localAuthority } from '../test/identity/local-authority.ts'
import type { SigningAuthority } from '../mesh/identity/authority.ts'
import { spiffeId } from '../mesh/identity/spiffe.ts'

const GLOBAL = `global
  nbthread 1
  maxconn 4000
  tune.ssl.default-dh-param 2048
defaults
  mode tcp
  timeout connect 5s
  timeout client 600s
  timeout server 600s
`
const SUITE = 'ciphersuites TLS_AES_128_GCM_SHA256 ssl-min-ver TLSv1.3'
const TTL_SECONDS = 86_400

export interface RelayRequest {
  readonly directory: string
  readonly root: SigningAuthority
  readonly outboundAddress: string
  readonly inboundAddress: string
  /** The server both paths end at. */
  readonly upstream: string
  readonly ports: readonly { readonly listen: number; readonly upstream: number }[]
}

async function writeIdentity(request: RelayRequest, name: string): Promise<string> {
  const identity = spiffeId({
    trustDomain: 'cluster.local',
    namespace: 'bench',
    serviceAccount: name,
  })
  const key = await createKeyAndCsr(identity)
  const signed = await localAuthority(request.root).sign(
    { identity, csrPem: key.csrPem, ttlSeconds: TTL_SECONDS },
    AbortSignal.timeout(5000),
  )
  if (!signed.ok) throw new Error(`Cannot sign the certificate of ${name}: ${signed.error.message}`)
  const file = join(request.directory, `${name}.pem`)
  await writeFile(file, `${signed.value.chainPem}\n${key.privateKeyPem}\n`, { mode: 0o600 })
  await writeFile(join(request.directory, 'root.pem'), signed.value.rootsPem)
  return file
}

/** Writes certificates and configurations of both relays; gives the configurations' paths. */
export async function writeRelayConfigurations(
  request: RelayRequest,
): Promise<{ readonly outbound: string; readonly inbound: string }> {
  const client = await writeIdentity(request, 'relay-client')
  const server = await writeIdentity(request, 'relay-server')
  const root = join(request.directory, 'root.pem')
  const outboundLines: string[] = []
  const inboundLines: string[] = []
  for (const { listen, upstream } of request.ports) {
    outboundLines.push(
      `listen out${listen}`,
      `  bind ${request.outboundAddress}:${listen}`,
      `  server far ${request.inboundAddress}:${listen} ssl crt ${client} ca-file ${root} verify required ${SUITE}`,
    )
    inboundLines.push(
      `listen in${listen}`,
      `  bind ${request.inboundAddress}:${listen} ssl crt ${server} ca-file ${root} verify required ${SUITE}`,
      `  server app ${request.upstream}:${upstream}`,
    )
  }
  const outbound = join(request.directory, 'outbound.cfg')
  const inbound = join(request.directory, 'inbound.cfg')
  await writeFile(outbound, `${GLOBAL}${outboundLines.join('\n')}\n`)
  await writeFile(inbound, `${GLOBAL}${inboundLines.join('\n')}\n`)
  return { outbound, inbound }
}
