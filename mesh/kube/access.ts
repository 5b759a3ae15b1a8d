// SPDX-License-Identifier: Apache-2.0
// How to reach and authenticate to an API server: in-cluster, or a kubeconfig. Tokens, client certificates and
// CA files are read here, and read again as they rotate. Users with exec plugins, auth providers or proxies are
// served by the official client, loaded only then: importing it costs 280 ms and 70 MB in every process.

import { readFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import type { Agent } from 'node:http'
import https from 'node:https'
import { isIP } from 'node:net'
import { homedir } from 'node:os'
import path from 'node:path'
import { checkServerIdentity } from 'node:tls'
import { http } from '../node-http.ts'
import type { Result } from '../result.ts'
import { err, ok } from '../result.ts'
import { AmbitError, errorMessage } from '../errors.ts'
import { readKubeconfig, type KubeconfigContext } from './kubeconfig.ts'

/** What one request needs besides its own content. */
export interface RequestCredentials {
  readonly headers: Readonly<Record<string, string>>
  readonly agent: Agent
}

/** An API server and the means to authenticate to it. Never logged: it holds secrets. */
export interface ClusterAccess {
  readonly server: URL
  /** The namespace of the context or of the pod we run in; `default` when neither says. */
  readonly namespace: string
  /** Where this came from, for messages: a path, or "in-cluster". */
  readonly source: string
  /** Credentials for the next request; `refresh` re-reads files even if they were read just now (after a 401). */
  credentials(options?: { readonly refresh?: boolean }): Promise<RequestCredentials>
}

export interface LoadKubeConfigOptions {
  /** Path of a kubeconfig. Without it: $KUBECONFIG, else in-cluster, else ~/.kube/config. */
  readonly kubeconfig?: string
  /** Another context than the kubeconfig's current one. */
  readonly context?: string
}

const SERVICE_ACCOUNT_DIRECTORY = '/var/run/secrets/kubernetes.io/serviceaccount'
/** Bound tokens live an hour or more and are renewed at 80 %; client-go re-reads them this often, too. */
const CREDENTIAL_CACHE_MS = 60_000
/** Finds dead peers of long watches: first probe after this long, then libuv's ten at one second each. */
const KEEP_ALIVE_PROBE_MS = 15_000

/** Finds out how to reach the API server. Reads files; does not connect. */
export async function loadKubeConfig(
  options: LoadKubeConfigOptions = {},
): Promise<Result<ClusterAccess, AmbitError>> {
  try {
    const named = options.kubeconfig ?? process.env.KUBECONFIG
    // The variable may list several files, also where a flag has taken its value over; the first counts.
    const file = named === process.env.KUBECONFIG ? named?.split(path.delimiter)[0] : named
    if (file !== undefined && file !== '') return ok(await fromFile(file, options.context))
    const inCluster = await fromServiceAccount()
    if (inCluster !== undefined) return ok(inCluster)
    return ok(await fromFile(path.join(homedir(), '.kube', 'config'), options.context))
  } catch (thrown) {
    if (thrown instanceof AmbitError) return err(thrown)
    return err(
      new AmbitError('AMB_KUBECONFIG', `Cannot load a kubeconfig: ${errorMessage(thrown)}`, {
        cause: thrown,
      }),
    )
  }
}

async function fromServiceAccount(): Promise<ClusterAccess | undefined> {
  const host = process.env.KUBERNETES_SERVICE_HOST
  const tokenFile = path.join(SERVICE_ACCOUNT_DIRECTORY, 'token')
  if (host === undefined || host === '' || !existsSync(tokenFile)) return undefined
  const port = process.env.KUBERNETES_SERVICE_PORT ?? '443'
  const namespaceFile = path.join(SERVICE_ACCOUNT_DIRECTORY, 'namespace')
  return staticAccess({
    source: 'in-cluster',
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    namespace: existsSync(namespaceFile)
      ? (await readFile(namespaceFile, 'utf8')).trim()
      : 'default',
    ca: { file: path.join(SERVICE_ACCOUNT_DIRECTORY, 'ca.crt'), field: 'ca.crt' },
    token: { file: tokenFile, field: 'token' },
  })
}

async function fromFile(file: string, contextName: string | undefined): Promise<ClusterAccess> {
  const text = await readFile(file, 'utf8').catch((thrown: unknown) => {
    throw new AmbitError(
      'AMB_KUBECONFIG',
      `Cannot read kubeconfig ${file}: ${errorMessage(thrown)}`,
    )
  })
  const context = await readKubeconfig(text, file, contextName)
  const { forOfficialClient } = context
  return forOfficialClient === undefined
    ? staticAccess(context)
    : officialClientAccess(file, forOfficialClient, contextName, context)
}

function staticAccess(context: KubeconfigContext): ClusterAccess {
  const server = new URL(context.server)
  let cached: { readonly at: number; readonly credentials: RequestCredentials } | undefined
  let agentKey: string | undefined
  let agent: Agent | undefined

  const load = async (): Promise<RequestCredentials> => {
    const [ca, certificate, key, token] = await Promise.all([
      material(context.ca),
      material(context.clientCertificate),
      material(context.clientKey),
      material(context.token),
    ])
    // A new agent only when the TLS material changed: the old one's idle connections would be wasted otherwise.
    const newKey = JSON.stringify([ca, certificate, key])
    if (agent === undefined || newKey !== agentKey) {
      agentKey = newKey
      agent = makeAgent(server, {
        ...(ca === undefined ? {} : { ca }),
        ...(certificate === undefined ? {} : { cert: certificate }),
        ...(key === undefined ? {} : { key }),
        ...serverIdentity(context.tlsServerName),
        ...(context.insecureSkipTlsVerify === true ? { rejectUnauthorized: false } : {}),
      })
    }
    const headers: Record<string, string> = {}
    if (token !== undefined) headers.authorization = `Bearer ${token.trim()}`
    else if (context.basic !== undefined)
      headers.authorization = `Basic ${Buffer.from(context.basic).toString('base64')}`
    return { headers, agent }
  }

  return {
    server,
    namespace: context.namespace,
    source: context.source,
    async credentials({ refresh = false } = {}) {
      const now = performance.now()
      if (cached === undefined || refresh || now - cached.at > CREDENTIAL_CACHE_MS)
        cached = { at: now, credentials: await load() }
      return cached.credentials
    },
  }
}

/** Exec plugins, auth providers and proxies, through the official client. */
async function officialClientAccess(
  file: string,
  json: string,
  contextName: string | undefined,
  context: KubeconfigContext,
): Promise<ClusterAccess> {
  const { KubeConfig } = await import('@kubernetes/client-node')
  const config = new KubeConfig()
  try {
    // What was read already: its own parser of YAML warns and throws with quotes of the text.
    config.loadFromString(json)
  } catch (thrown) {
    const [field] = /^[\w.[\]]+(?= is missing$)/.exec(errorMessage(thrown)) ?? []
    const reason = field === undefined ? 'the official client refuses it' : `${field} is missing`
    throw new AmbitError('AMB_KUBECONFIG', `Cannot use kubeconfig ${file}: ${reason}`)
  }
  config.makePathsAbsolute(path.dirname(file))
  if (contextName !== undefined) config.setCurrentContext(contextName)
  resolvePlugin(config.getCurrentUser()?.exec, file)
  return {
    server: new URL(context.server),
    namespace: context.namespace,
    source: context.source,
    async credentials() {
      const options: https.RequestOptions = {}
      // The client caches its agent and its plugin's token until that expires.
      await config.applyToHTTPSOptions(options).catch((thrown: unknown) => {
        throw new AmbitError(
          'AMB_KUBE_AUTH',
          `Cannot use kubeconfig ${file}: no credentials: ${reasonOfClient(thrown)}`,
        )
      })
      const headers: Record<string, string> = {}
      for (const [name, value] of Object.entries(options.headers ?? {}))
        if (value !== undefined) headers[name.toLowerCase()] = String(value)
      const agent = options.agent
      if (!(agent instanceof http.Agent))
        throw new AmbitError(
          'AMB_KUBECONFIG',
          `Cannot use kubeconfig ${file}: the client made no agent`,
        )
      return { headers, agent }
    },
  }
}

/**
 * Why there are no credentials. A plugin's own words on stderr are told; not what it gave instead of JSON, which may hold
 * the token, nor the arguments that an error of spawn() carries beside its message.
 */
function reasonOfClient(thrown: unknown): string {
  return thrown instanceof SyntaxError ? 'the plugin gave no JSON' : errorMessage(thrown)
}

/** A plugin's path is relative to the kubeconfig, as kubectl has it; the official client takes it as it stands. */
function resolvePlugin(exec: unknown, file: string): void {
  if (typeof exec !== 'object' || exec === null || !('command' in exec)) return
  const { command } = exec
  if (typeof command === 'string' && command.includes('/'))
    exec.command = path.resolve(path.dirname(file), command)
}

function makeAgent(server: URL, tls: https.AgentOptions): Agent {
  const connections = { keepAlive: true, keepAliveMsecs: KEEP_ALIVE_PROBE_MS } as const
  return server.protocol === 'https:'
    ? new https.Agent({ ...connections, ...tls })
    : new http.Agent(connections)
}

/** Under which name the server's certificate is checked when it is not that of the URL. */
function serverIdentity(name: string | undefined): https.AgentOptions {
  if (name === undefined) return {}
  if (isIP(name) === 0) return { servername: name }
  // RFC 6066 3: an address is nothing a client may ask for by name, but a certificate may be for one.
  return { checkServerIdentity: (_host, certificate) => checkServerIdentity(name, certificate) }
}

async function material(source: KubeconfigContext['ca']): Promise<string | undefined> {
  if (source === undefined) return undefined
  if ('text' in source) return source.text
  return await readFile(source.file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    // The path is not quoted: more than one token has been written where its file's name belongs.
    throw new Error(`cannot read the file of field ${source.field} (${error.code ?? 'unknown'})`)
  })
}
