// SPDX-License-Identifier: Apache-2.0
// Reads a packet capture of the fabric with tshark and says what went over the wire between pods.

import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { POD_NETS } from '../network/addressing.ts'

const execFileAsync = promisify(execFile)

/** HBONE's port. */
const HBONE_PORT = '15008'
/** supported_versions of a ServerHello that chose TLS 1.3 (RFC 8446 4.2.1). */
const TLS_1_3 = '0x0304'
/** Pod addresses of the lab. */
const POD_ADDRESS = new RegExp(POD_NETS.map((net) => `^10\\.${net}\\.|^fd98:${net}:`).join('|'))
/** tshark's output for a capture of the demo is small; this bounds a surprise. Bytes. */
const MAX_OUTPUT = 64 * 1024 * 1024

export interface WireFacts {
  /** Whether these bytes stand anywhere in the capture file. */
  readonly markerSeen: boolean
  /** TCP segments with payload from pod to pod, by the lower-case name of what carried them. */
  readonly hboneSegments: number
  readonly plaintextSegments: number
  /** One example of a plaintext segment's end points, for the report. */
  readonly plaintextExample: string | undefined
  /** TLS versions chosen by servers on port 15008. */
  readonly tlsVersions: readonly string[]
}

async function tsharkFields(
  file: string,
  filter: string,
  fields: readonly string[],
): Promise<string[][]> {
  const args = [
    '-n',
    '-r',
    file,
    '-d',
    `tcp.port==${HBONE_PORT},tls`,
    '-Y',
    filter,
    '-T',
    'fields',
    '-E',
    'separator=|',
    '-E',
    'occurrence=f',
  ]
  const { stdout } = await execFileAsync(
    'tshark',
    [...args, ...fields.flatMap((field) => ['-e', field])],
    { maxBuffer: MAX_OUTPUT },
  )
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('|'))
}

/** Analyses a pcap file; `marker` is a text that only the plaintext of a request contains. */
export async function wireFacts(file: string, marker: string): Promise<WireFacts> {
  const [bytes, segments, hellos] = await Promise.all([
    readFile(file),
    tsharkFields(file, 'tcp.len > 0', [
      'ip.src',
      'ipv6.src',
      'tcp.srcport',
      'ip.dst',
      'ipv6.dst',
      'tcp.dstport',
    ]),
    tsharkFields(file, `tls.handshake.type == 2 && tcp.srcport == ${HBONE_PORT}`, [
      'tls.handshake.extensions.supported_version',
    ]),
  ])
  let hboneSegments = 0
  let plaintextSegments = 0
  let plaintextExample: string | undefined
  for (const [source4, source6, sourcePort, target4, target6, targetPort] of segments) {
    const source = source4 || source6 || ''
    const target = target4 || target6 || ''
    if (!POD_ADDRESS.test(source) || !POD_ADDRESS.test(target)) continue
    if (sourcePort === HBONE_PORT || targetPort === HBONE_PORT) hboneSegments += 1
    else {
      plaintextSegments += 1
      plaintextExample ??= `${source}:${sourcePort} to ${target}:${targetPort}`
    }
  }
  const tlsVersions = [
    ...new Set(hellos.map(([version]) => (version === TLS_1_3 ? 'TLS 1.3' : String(version)))),
  ]
  return {
    markerSeen: bytes.includes(marker),
    hboneSegments,
    plaintextSegments,
    plaintextExample,
    tlsVersions,
  }
}
