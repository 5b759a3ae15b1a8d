// SPDX-License-Identifier: Apache-2.0
// Reads the text of a kubeconfig into one resolved context. Pure apart from loading the YAML parser when needed.

import path from 'node:path'
import { AmbitError, errorMessage } from '../errors.ts'

/** Text given inline, or a file to read (again and again, as it rotates). */
export type Material = { readonly text: string } | { readonly file: string }

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
  /** True for exec plugins, auth providers and proxies. */
  readonly needsOfficialClient?: boolean
}

type Mapping = Readonly<Record<string, unknown>>

/** Resolves the current (or the named) context. Throws AmbitError naming file, field and reason. */
export async function readKubeconfig(
  text: string,
  file: string,
  contextName?: string,
): Promise<KubeconfigContext> {
  const fail = (reason: string): AmbitError =>
    new AmbitError('AMB_KUBECONFIG', `Cannot use kubeconfig ${file}: ${reason}`)
  const root = await parse(text, fail)
  const wanted = contextName ?? stringOf(root, 'current-context')
  if (wanted === undefined || wanted === '') throw fail('current-context is not set')
  const context = named(root, 'contexts', wanted, 'context', fail)
  const clusterName = stringOf(context, 'cluster')
  if (clusterName === undefined) throw fail(`context "${wanted}" names no cluster`)
  const cluster = named(root, 'clusters', clusterName, 'cluster', fail)
  const userName = stringOf(context, 'user')
  const user =
    userName === undefined || userName === '' ? {} : named(root, 'users', userName, 'user', fail)

  const server = stringOf(cluster, 'server')
  if (server === undefined || !/^https?:\/\//.test(server) || !URL.canParse(server))
    throw fail(`cluster "${clusterName}" has no valid server URL (field server)`)
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
    needsOfficialClient:
      user.exec !== undefined ||
      user['auth-provider'] !== undefined ||
      cluster['proxy-url'] !== undefined,
    ...(ca === undefined ? {} : { ca }),
    ...(clientCertificate === undefined ? {} : { clientCertificate }),
    ...(clientKey === undefined ? {} : { clientKey }),
    ...(tlsServerName === undefined ? {} : { tlsServerName }),
    // kubectl: the file wins over the inline token.
    ...(tokenFile !== undefined
      ? { token: { file: path.resolve(directory, tokenFile) } }
      : token !== undefined
        ? { token: { text: token } }
        : {}),
    ...(username === undefined ? {} : { basic: `${username}:${stringOf(user, 'password') ?? ''}` }),
  }
}

async function parse(text: string, fail: (reason: string) => AmbitError): Promise<Mapping> {
  let value: unknown
  try {
    // JSON is YAML, and needs no parser to be loaded.
    value = text.trimStart().startsWith('{') ? JSON.parse(text) : (await import('yaml')).parse(text)
  } catch (thrown) {
    throw fail(`it is not valid YAML${placeOf(thrown)}`)
  }
  if (!isMapping(value)) throw fail('it is not a mapping')
  return value
}

/** What is wrong and where. The parsers also quote the text, and that may be a token. */
function placeOf(thrown: unknown): string {
  if (thrown instanceof SyntaxError) return ''
  const [first = ''] = errorMessage(thrown).split('\n')
  return `: ${first.replace(/:$/, '')}`
}

function named(
  root: Mapping,
  list: string,
  name: string,
  field: string,
  fail: (reason: string) => AmbitError,
): Mapping {
  const entries = root[list]
  const entry: unknown = Array.isArray(entries)
    ? entries.find((candidate: unknown) => isMapping(candidate) && candidate.name === name)
    : undefined
  const value = isMapping(entry) ? entry[field] : undefined
  if (!isMapping(value)) throw fail(`${list} has no entry named "${name}" with a ${field}`)
  return value
}

function materialOf(mapping: Mapping, field: string, directory: string): Material | undefined {
  const data = stringOf(mapping, `${field}-data`)
  if (data !== undefined && data !== '')
    return { text: Buffer.from(data, 'base64').toString('utf8') }
  const file = stringOf(mapping, field)
  return file === undefined || file === '' ? undefined : { file: path.resolve(directory, file) }
}

const stringOf = (mapping: Mapping, field: string): string | undefined => {
  const value = mapping[field]
  return typeof value === 'string' ? value : undefined
}

const isMapping = (value: unknown): value is Mapping =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
