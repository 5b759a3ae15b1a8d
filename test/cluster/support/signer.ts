// SPDX-License-Identifier: Apache-2.0
// A signer as cert-manager has it, in small: signs CertificateSigningRequests of its name that are approved, with openssl and a root of
// its own, and with no right in the cluster but those that this takes.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DemoLab } from '../../../lab/demo/check.ts'
import { command } from '../../../lab/machine/command.ts'
import { errorMessage } from '../../../mesh/errors.ts'
import {
  CERTIFICATE_SIGNING_REQUESTS,
  type CertificateSigningRequest,
  createKubeApi,
  type KubeApi,
  loadKubeConfig,
  watchResource,
} from '../../../mesh/kube/index.ts'
import { createLogger } from '../../../mesh/telemetry/log.ts'
import { NAMESPACE } from './life-objects.ts'

export interface Signer {
  /** Its root, PEM. */
  readonly root: string
  /** The names in what it has signed. */
  readonly signed: readonly string[]
  close(): Promise<void>
}

const NAME = 'signer'
const LEAF = `
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
`

/** Its account and rights are objects of the namespace of the stories, which is there; its files are in the directory. */
export async function startSigner(
  lab: DemoLab,
  signerName: string,
  directory: string,
): Promise<Signer> {
  const at = (name: string): string => join(directory, name)
  await lab.apply({ apiVersion: 'v1', kind: 'List', items: rights(signerName) })
  await makeRoot(at)
  writeFileSync(at('leaf.cnf'), LEAF)
  const api = await accessOf(lab, at('signer.conf'))
  const signed: string[] = []
  const consider = (request: CertificateSigningRequest): void => {
    const { spec, status } = request
    const isApproved = status?.conditions?.some(({ type }) => type === 'Approved') === true
    if (spec?.signerName !== signerName || !isApproved || status?.certificate !== undefined) return
    answer(api, request, at).then(
      (name) => signed.push(name),
      (error: unknown) => console.error(`the signer: ${errorMessage(error)}`),
    )
  }
  const watch = watchResource(api, CERTIFICATE_SIGNING_REQUESTS, {
    logger: createLogger('signer', 'warn'),
    keep: (request) => request,
    added: consider,
    updated: (_previous, request) => consider(request),
  })
  await watch.synced
  return {
    root: readFileSync(at('ca.crt'), 'utf8'),
    signed,
    close: async () => {
      await watch.close()
      const names = [`clusterrole/ambit-test-${NAME}`, `clusterrolebinding/ambit-test-${NAME}`]
      await lab.kubectl('delete', ...names, '--ignore-not-found')
    },
  }
}

/** What a signer needs, and no more. */
function rights(signerName: string): readonly object[] {
  const [group, version] = ['rbac.authorization.k8s.io', 'v1']
  const name = `ambit-test-${NAME}`
  const certificates = 'certificates.k8s.io'
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { namespace: NAMESPACE, name: NAME } },
    {
      apiVersion: `${group}/${version}`,
      kind: 'ClusterRole',
      metadata: { name },
      rules: [
        {
          apiGroups: [certificates],
          resources: ['certificatesigningrequests'],
          verbs: ['list', 'watch'],
        },
        {
          apiGroups: [certificates],
          resources: ['certificatesigningrequests/status'],
          verbs: ['update'],
        },
        {
          apiGroups: [certificates],
          resources: ['signers'],
          resourceNames: [signerName],
          verbs: ['sign'],
        },
      ],
    },
    {
      apiVersion: `${group}/${version}`,
      kind: 'ClusterRoleBinding',
      metadata: { name },
      roleRef: { apiGroup: group, kind: 'ClusterRole', name },
      subjects: [{ kind: 'ServiceAccount', namespace: NAMESPACE, name: NAME }],
    },
  ]
}

async function makeRoot(at: (name: string) => string): Promise<void> {
  await command([
    ...[
      'openssl',
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
    ],
    ...['-days', '30', '-subj', '/O=signer', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
    ...['-keyout', at('ca.key'), '-out', at('ca.crt')],
  ])
}

async function accessOf(lab: DemoLab, file: string): Promise<KubeApi> {
  const token = await lab.kubectl('create', 'token', '-n', NAMESPACE, NAME)
  const admin = await lab.kubectl('config', 'view', '--raw', '--minify', '-o', 'json')
  const config = JSON.parse(admin) as { users: { name: string; user: object }[] }
  config.users = config.users.map(({ name }) => ({ name, user: { token: token.trim() } }))
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 })
  const access = await loadKubeConfig({ kubeconfig: file })
  if (!access.ok) throw access.error
  return createKubeApi(access.value)
}

/** Signs what is asked for; gives the name in it. */
async function answer(
  api: KubeApi,
  request: CertificateSigningRequest,
  at: (name: string) => string,
): Promise<string> {
  const input = Buffer.from(request.spec?.request ?? '', 'base64').toString('utf8')
  const certificate = await command(
    [
      ...['openssl', 'x509', '-req', '-days', '1', '-copy_extensions', 'copyall'],
      ...['-CA', at('ca.crt'), '-CAkey', at('ca.key'), '-extfile', at('leaf.cnf')],
    ],
    { input },
  )
  const stored = await api.update(
    CERTIFICATE_SIGNING_REQUESTS,
    {
      ...request,
      apiVersion: 'certificates.k8s.io/v1',
      kind: CERTIFICATE_SIGNING_REQUESTS.kind,
      status: { ...request.status, certificate: Buffer.from(certificate).toString('base64') },
    },
    { subresource: 'status' },
  )
  if (!stored.ok) throw new Error(stored.error.message)
  const text = await command(['openssl', 'x509', '-noout', '-ext', 'subjectAltName'], {
    input: certificate,
  })
  return /URI:(\S+)/.exec(text)?.[1] ?? text
}
