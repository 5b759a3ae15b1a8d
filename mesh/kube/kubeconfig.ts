// SPDX-License-Identifier: Apache-2.0
// Reads the text of a kubeconfig into one resolved context. Pure apart from loading the YAML parser when needed.

import path from 'node:path'
import { AmbitError } from '../errors.ts'
import { parseJson } from '../json.ts'
import { err, ok, type Result } from '../result.ts'

/** Text given inline, or the file that a field names, to be read (again and again, as it rotates). */
export type Material = { readonly text: string } | { readonly file: string; readonly field: string }

export interface KubeconfigContext {
  readonly source: string
  readonly server: string
  readonly namespace: string
  readonly ca?: Material
  readonly clientCertificate?: Material
  readonly clientKey?: Material
  readonly token?: Material
  /** `user:password` */
  readonly basic?: string
  readonly tlsServerName?: string
  readonly insecureSkipTlsVerify?: boolean
  /** For exec plugins, auth providers and proxies: the whole kubeconfig as JSON, for the official client. */
  readonly forOfficialClient?: string
}

type Mapping = Readonly<Record<string, unknown>>

/**
 * Resolves the current (or the named) context. Throws AmbitError naming file, field and reason. Nothing that stands in
 * the file is quoted, names neither: with a line break lost, a token becomes part of a name.
 */
export async function readKubeconfig(
  text: string,
  file: string,
  contextName?: string,
): Promise<KubeconfigContext> {
  const fail = (reason: string): AmbitError =>
    new AmbitError('AMB_KUBECONFIG', `Cannot use kubeconfig ${file}: ${reason}`)
  const root = await parseKubeconfig(text, file)
  const wanted = contextName ?? stringOf(root, 'current-context')
  if (wanted === undefined || wanted === '') throw fail('current-context is not set')
  const context = named(root, 'contexts', wanted, 'context')
  // By whoever asks it may be named; what stands in the file may not.
  const asked = contextName === undefined ? 'the current context' : `context "${contextName}"`
  if (context === undefined) {
    const entry = contextName === undefined ? 'for the current context' : `named "${contextName}"`
    throw fail(`contexts has no entry ${entry} with a context`)
  }
  const clusterName = stringOf(context, 'cluster')
  if (clusterName === undefined) throw fail(`${asked} names no cluster`)
  const cluster = named(root, 'clusters', clusterName, 'cluster')
  if (cluster === undefined) throw fail(`clusters has no entry with the cluster of ${asked}`)
  const userName = stringOf(context, 'user') ?? ''
  const user = userName === '' ? {} : named(root, 'users', userName, 'user')
  if (user === undefined) throw fail(`users has no entry with the user of ${asked}`)

  const server = stringOf(cluster, 'server')
  if (server === undefined || !/^https?:\/\//.test(server) || !URL.canParse(server))
    throw fail(`the cluster of ${asked} has no valid server URL (field server)`)
  // They would end in every message that names the server.
  if (new URL(server).username !== '' || new URL(server).password !== '')
    throw fail(`the cluster of ${asked} has credentials in its URL (field server)`)
  const directory = path.dirname(path.resolve(file))
  const ca = materialOf(cluster, 'certificate-authority', directory)
  const clientCertificate = materialOf(user, 'client-certificate', directory)
  const clientKey = materialOf(user, 'client-key', directory)
  const token = stringOf(user, 'token')
  const tokenFile = stringOf(user, 'tokenFile')
  const username = stringOf(user, 'username')
  const tlsServerName = stringOf(cluster, 'tls-server-name')
  return {
    source: file,
    server,
    namespace: stringOf(context, 'namespace') ?? 'default',
    insecureSkipTlsVerify: cluster['insecure-skip-tls-verify'] === true,
    ...(user.exec !== undefined ||
    user['auth-provider'] !== undefined ||
    cluster['proxy-url'] !== undefined
      ? { forOfficialClient: JSON.stringify(root) }
      : {}),
    ...(ca === undefined ? {} : { ca }),
    ...(clientCertificate === undefined ? {} : { clientCertificate }),
    ...(clientKey === undefined ? {} : { clientKey }),
    ...(tlsServerName === undefined ? {} : { tlsServerName }),
    // kubectl: the file wins over the inline token.
    ...(tokenFile !== undefined
      ? { token: { file: path.resolve(directory, tokenFile), field: 'tokenFile' } }
      : token !== undefined
        ? { token: { text: token } }
        : {}),
    ...(username === undefined ? {} : { basic: `${username}:${stringOf(user, 'password') ?? ''}` }),
  }
}

/** The whole of a kubeconfig's text. Throws AMB_KUBECONFIG with file, line and reason; quotes nothing. */
export async function parseKubeconfig(text: string, file: string): Promise<Mapping> {
  // JSON is YAML, and needs no parser to be loaded; but what begins like JSON may be YAML that is not.
  const json = text.trimStart().startsWith('{') ? parseJson(text) : undefined
  const parsed = json?.ok === true ? json : await parseYaml(text)
  if (parsed.ok && isMapping(parsed.value)) return parsed.value
  const reason = parsed.ok ? 'it is not a mapping' : `it is not valid YAML: ${parsed.error}`
  throw new AmbitError('AMB_KUBECONFIG', `Cannot use kubeconfig ${file}: ${reason}`)
}

async function parseYaml(text: string): Promise<Result<unknown, string>> {
  const { parseYamlDocuments } = await import('./yaml.ts')
  const documents = parseYamlDocuments(text)
  if (!documents.ok) return err(`line ${documents.error.line}: ${documents.error.what}`)
  const [first, second] = documents.value
  return second === undefined ? ok(first?.value) : err('it holds several documents')
}

function named(root: Mapping, list: string, name: string, field: string): Mapping | undefined {
  const entries = root[list]
  const entry: unknown = Array.isArray(entries)
    ? entries.find((candidate: unknown) => isMapping(candidate) && candidate.name === name)
    : undefined
  const value = isMapping(entry) ? entry[field] : undefined
  return isMapping(value) ? value : undefined
}

function materialOf(mapping: Mapping, field: string, directory: string): Material | undefined {
  const data = stringOf(mapping, `${field}-data`)
  if (data !== undefined && data !== '')
    return { text: Buffer.from(data, 'base64').toString('utf8') }
  const file = stringOf(mapping, field)
  return file === undefined || file === ''
    ? undefined
    : { file: path.resolve(directory, file), field }
}

const stringOf = (mapping: Mapping, field: string): string | undefined => {
  const value = mapping[field]
  return typeof value === 'string' ? value : undefined
}

const isMapping = (value: unknown): value is Mapping =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
