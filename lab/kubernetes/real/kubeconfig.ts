// SPDX-License-Identifier: Apache-2.0
// The lab's own copy of a kubeconfig: one context, so that plain kubectl and a later `lab down` use the cluster that
// `lab up` used, whatever becomes of the file it was read from. Credentials that the file only points at (token files,
// certificates, exec plugins) stay where they are, so that they go on rotating.

import { readFile } from 'node:fs/promises'
import { dirname, isAbsolute, resolve } from 'node:path'
import { stringify } from 'yaml'
import { AmbitError } from '../../../mesh/errors.ts'
import { loadKubeConfig } from '../../../mesh/kube/access.ts'
import { parseKubeconfig } from '../../../mesh/kube/kubeconfig.ts'
import { type Draft, record, records, text } from '../objects/json.ts'

export interface ServerChoice {
  readonly kubeconfig: string
  readonly context?: string | undefined
}

export interface KubeconfigCopy {
  /** The text of the copy: secret. */
  readonly content: string
  readonly context: string
  readonly server: string
  /** PEM of the authority that the context trusts; undefined for the machine's own, or none at all. */
  readonly caPem: string | undefined
}

/** Fields that hold paths, which are relative to the file they are written in. */
const PATHS = ['certificate-authority', 'client-certificate', 'client-key', 'tokenFile']

/** Reads the chosen context out of its file. Throws AMB_KUBECONFIG with the field and the reason. */
export async function copyKubeconfig(choice: ServerChoice): Promise<KubeconfigCopy> {
  const { kubeconfig, context: wanted } = choice
  // This checks everything that a client checks before it connects.
  const access = await loadKubeConfig({
    kubeconfig,
    ...(wanted === undefined ? {} : { context: wanted }),
  })
  if (!access.ok) throw access.error
  const bad = (reason: string): AmbitError =>
    new AmbitError('AMB_KUBECONFIG', `Cannot use kubeconfig ${kubeconfig}: ${reason}`)

  const root: Draft = { ...(await parseKubeconfig(await readFile(kubeconfig, 'utf8'), kubeconfig)) }
  const name = wanted ?? text(root['current-context']) ?? ''
  const entry = (list: string, of: string | undefined): Draft | undefined =>
    records(root[list]).find((each) => each.name === of)
  const context = record(entry('contexts', name)?.context) ?? {}
  const clusterEntry = entry('clusters', text(context.cluster))
  const userEntry = entry('users', text(context.user))
  const directory = dirname(resolve(kubeconfig))
  const cluster = withAbsolutePaths(record(clusterEntry?.cluster) ?? {}, directory)
  const user = withAbsolutePaths(record(userEntry?.user) ?? {}, directory)

  const { server } = access.value
  if (server.protocol !== 'https:')
    throw bad(`the cluster of its context: field server must be an https URL: pods speak TLS`)
  if (cluster['proxy-url'] !== undefined)
    throw bad(
      `the cluster of its context: field proxy-url is not supported: the lab's pods need a direct way`,
    )
  return {
    content: stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ ...clusterEntry, cluster }],
      users: userEntry === undefined ? [] : [{ ...userEntry, user }],
      contexts: [{ name, context }],
      'current-context': name,
    }),
    context: name,
    server: server.href.replace(/\/$/, ''),
    caPem: await authorityOf(cluster, bad),
  }
}

function withAbsolutePaths(mapping: Draft, directory: string): Draft {
  const copy = { ...mapping }
  for (const field of PATHS) {
    const path = text(copy[field])
    if (path !== undefined && path !== '') copy[field] = resolve(directory, path)
  }
  const exec = record(copy.exec)
  const program = text(exec?.command) ?? ''
  // A bare name is looked up on PATH; a path is relative to the file, as any other.
  if (program.includes('/') && !isAbsolute(program))
    copy.exec = { ...exec, command: resolve(directory, program) }
  return copy
}

async function authorityOf(
  cluster: Draft,
  bad: (reason: string) => AmbitError,
): Promise<string | undefined> {
  const inline = text(cluster['certificate-authority-data'])
  if (inline !== undefined && inline !== '') return Buffer.from(inline, 'base64').toString('utf8')
  const file = text(cluster['certificate-authority'])
  if (file === undefined || file === '') return undefined
  return await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw bad(`cannot read the file of field certificate-authority (${error.code ?? 'unknown'})`)
  })
}
