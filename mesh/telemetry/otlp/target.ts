// SPDX-License-Identifier: Apache-2.0
// Where telemetry is sent, out of the flags and the files they name. Headers are secrets as a rule: nothing here or after it tells one.

import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import { http } from '../../node-http.ts'
import { AmbitError, errorMessage } from '../../errors.ts'
import { splitCertificates } from '../../identity/pem.ts'

/** The flags. */
export interface OtlpConfig {
  readonly otlpEndpoint?: URL
  readonly otlpHeadersFile?: string
  readonly otlpCaFile?: string
  readonly otlpIntervalMs: number
}

export interface OtlpTarget {
  /** The collector's base URL; /v1/metrics and /v1/logs are under it. */
  readonly endpoint: URL
  /** Of the next request; read anew for each, since tokens change. Rejects with AMB_OTLP. */
  readonly headers: () => Promise<Readonly<Record<string, string>>>
  /** PEM of the roots of an https endpoint, in place of the system's. */
  readonly ca: string | undefined
}

/** Headers that say how a request is framed, which is not for others to say. */
const OURS: ReadonlySet<string> = new Set([
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'host',
  'transfer-encoding',
])
const LARGEST_FILE_BYTES = 1024 * 1024

/** Undefined where nothing is to be exported. Throws AMB_OTLP, naming flag, file and reason. */
export async function readTarget(config: OtlpConfig): Promise<OtlpTarget | undefined> {
  const { otlpEndpoint: endpoint, otlpHeadersFile, otlpCaFile } = config
  if (endpoint === undefined) {
    const idle =
      otlpHeadersFile === undefined ? otlpCaFile && '--otlp-ca-file' : '--otlp-headers-file'
    if (idle) throw wrong(idle, 'it is of no use without --otlp-endpoint')
    return undefined
  }
  const headers = async (): Promise<Readonly<Record<string, string>>> =>
    otlpHeadersFile === undefined
      ? {}
      : readWith('--otlp-headers-file', otlpHeadersFile, parseHeaders)
  // So that what is wrong with it is known at the start.
  await headers()
  const ca = otlpCaFile && (await readWith('--otlp-ca-file', otlpCaFile, checkRoots))
  return { endpoint, headers, ca }
}

async function readWith<T>(flag: string, file: string, read: (text: string) => T): Promise<T> {
  try {
    const text = await readFile(file, 'utf8')
    if (text.length > LARGEST_FILE_BYTES) throw new Error('it is larger than 1 MiB')
    return read(text)
  } catch (thrown) {
    throw wrong(`${flag} ${file}`, errorMessage(thrown))
  }
}

/** Lines of `name: value`; empty ones and those that begin with # are left out. The error names the line, and nothing that is in it. */
export function parseHeaders(text: string): Readonly<Record<string, string>> {
  const headers: Record<string, string> = {}
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue
    const colon = line.indexOf(':')
    const name = line.slice(0, Math.max(colon, 0)).trim().toLowerCase()
    const value = line.slice(colon + 1).trim()
    const fault = headerFault(name, value) ?? (name in headers ? 'it is there twice' : undefined)
    if (fault !== undefined) throw new Error(`line ${index + 1}: ${fault}`)
    headers[name] = value
  }
  return headers
}

function headerFault(name: string, value: string): string | undefined {
  if (OURS.has(name)) return `${name} cannot be set`
  try {
    http.validateHeaderName(name)
    http.validateHeaderValue(name, value)
    return undefined
  } catch {
    // Node's own error quotes what is wrong, which may be a secret.
    return 'it is not of the form "name: value"'
  }
}

function checkRoots(pem: string): string {
  if (splitCertificates(pem).length === 0) throw new Error('there is no certificate in it (PEM)')
  createSecureContext({ ca: pem })
  return pem
}

function wrong(where: string, reason: string): AmbitError {
  return new AmbitError('AMB_OTLP', `Cannot export telemetry: ${where}: ${reason}`)
}
