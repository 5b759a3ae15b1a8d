// SPDX-License-Identifier: Apache-2.0
// A true kube-apiserver with its etcd, on loopback and in a directory of its own, with kube-controller-manager and
// kube-scheduler if wanted. The programs are not ours to bring: see CONTRIBUTING, "Against a true API server".
//
// By hand: node lab/kubernetes/real/api-server.ts [--with-controllers] prints the path of a kubeconfig and stays until
// Ctrl-C.

import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import { findProgram } from '../../machine/find-program.ts'
import { makeServerCertificate } from '../../machine/server-certificate.ts'
import { kubeconfigText } from '../objects/kubeconfig-text.ts'
import { loadKubeConfig } from '../../../mesh/kube/access.ts'
import { createKubeApi, type KubeApi } from '../../../mesh/kube/api.ts'
import {
  CONFIG_MAPS,
  ENDPOINT_SLICES,
  LEASES,
  NAMESPACES,
  SERVICE_ACCOUNTS,
} from '../../../mesh/kube/resources.ts'

/** Names the directory with the programs. Without it they are looked for on PATH and among the repository's own tools. */
const DIRECTORY_VARIABLE = 'AMBIT_KUBE_BIN'
const TOOLS_DIRECTORY = fileURLToPath(
  new URL('../../../node_modules/.ambit-tools', import.meta.url),
)
const READY_DEADLINE_MS = 60_000
const POLL_MS = 100
const QUOTED_LOG_BYTES = 2000

/** Other ranges than the lab's own, of both families: nothing may depend on those. */
const SERVICE_RANGES = ['10.55.0.0/20', 'fd55::/112']
export const FIRST_SERVICE_IP = '10.55.0.1'
/** kube-apiserver refuses to advertise a loopback address; nobody is to reach it by this one (RFC 5737). */
const ADVERTISED_IP = '192.0.2.1'

export interface RealApiServer extends AsyncDisposable {
  readonly kubeconfig: string
  readonly url: string
  readonly caPem: string
  /** Bearer token of its administrator: secret. */
  readonly adminToken: string
  readonly api: KubeApi
  /** Starts kube-controller-manager and kube-scheduler; resolves when both have taken up their work. */
  startControllers(): Promise<void>
}

/** The program's path, or undefined when the machine does not have it. */
function findServer(name: string): string | undefined {
  return findProgram(name, { before: process.env[DIRECTORY_VARIABLE], after: [TOOLS_DIRECTORY] })
}

/** Why a test that needs these programs has to be skipped; false when all are there. */
export function missingPrograms(...names: readonly string[]): string | false {
  const absent = names.filter((name) => findServer(name) === undefined)
  return absent.length === 0
    ? false
    : `no ${absent.join(', ')} in ${DIRECTORY_VARIABLE}, on PATH or in node_modules/.ambit-tools (CONTRIBUTING, "Against a true API server")`
}

/** Starts etcd and kube-apiserver and waits until it serves. The ranges of services are those of IPv4 and of IPv6. */
export async function startRealApiServer(
  serviceRanges: readonly string[] = SERVICE_RANGES,
): Promise<RealApiServer> {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-kube-'))
  const at = (name: string): string => join(directory, name)
  const running: ChildProcess[] = []
  const start = (name: string, args: readonly string[]): void => {
    const log = openSync(at(`${name}.log`), 'a')
    // Whoever started it may be killed, by a time limit for one: then it goes as well.
    const argv = ['--pdeathsig', 'KILL', findServer(name) ?? name, ...args]
    const child = spawn('setpriv', argv, { stdio: ['ignore', log, log] })
    closeSync(log)
    running.push(child)
  }
  const stop = async (): Promise<void> => {
    for (const child of running.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    }
  }

  const [clientPort, peerPort, apiPort] = await freePorts(3)
  const token = randomBytes(24).toString('base64url')
  const certificate = await makeServerCertificate([
    '127.0.0.1',
    'localhost',
    'kubernetes',
    'kubernetes.default',
    'kubernetes.default.svc',
    'kubernetes.default.svc.cluster.local',
    FIRST_SERVICE_IP,
  ])
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const server = `https://127.0.0.1:${apiPort}`
  const kubeconfig = at('kubeconfig')
  const secret = { mode: 0o600 }
  await Promise.all([
    writeFile(at('server.crt'), certificate.certificatePem),
    writeFile(at('server.key'), certificate.privateKeyPem, secret),
    writeFile(at('ca.crt'), certificate.caPem),
    writeFile(at('sa.key'), privateKey.export({ type: 'pkcs1', format: 'pem' }), secret),
    writeFile(at('sa.pub'), publicKey.export({ type: 'spki', format: 'pem' })),
    writeFile(at('tokens.csv'), `${token},admin,admin,system:masters\n`, secret),
    writeFile(
      kubeconfig,
      kubeconfigText({ server, caPem: certificate.caPem, token, name: 'real' }),
      secret,
    ),
  ])
  start('etcd', [
    '--data-dir',
    at('etcd'),
    '--listen-client-urls',
    `http://127.0.0.1:${clientPort}`,
    '--advertise-client-urls',
    `http://127.0.0.1:${clientPort}`,
    '--listen-peer-urls',
    `http://127.0.0.1:${peerPort}`,
  ])
  start('kube-apiserver', [
    `--etcd-servers=http://127.0.0.1:${clientPort}`,
    '--bind-address=127.0.0.1',
    `--secure-port=${apiPort}`,
    `--advertise-address=${ADVERTISED_IP}`,
    `--service-cluster-ip-range=${serviceRanges.join(',')}`,
    '--authorization-mode=RBAC',
    `--tls-cert-file=${at('server.crt')}`,
    `--tls-private-key-file=${at('server.key')}`,
    `--token-auth-file=${at('tokens.csv')}`,
    '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
    `--service-account-key-file=${at('sa.pub')}`,
    `--service-account-signing-key-file=${at('sa.key')}`,
    `--cert-dir=${directory}`,
  ])

  const access = await loadKubeConfig({ kubeconfig })
  if (!access.ok) throw access.error
  const api = createKubeApi(access.value)
  const dispose = async (): Promise<void> => {
    await stop()
    rmSync(directory, { recursive: true, force: true })
  }
  /** Polls: before the server serves there is nothing to be told by. */
  const untilTrue = async (holds: () => Promise<boolean>): Promise<void> => {
    for (const deadline = Date.now() + READY_DEADLINE_MS; !(await holds()); ) {
      if (Date.now() > deadline) {
        const log = readFileSync(at('kube-apiserver.log'), 'utf8').slice(-QUOTED_LOG_BYTES)
        await dispose()
        throw new Error(`Cannot start the API server; the end of its log:\n${log}`)
      }
      await sleep(POLL_MS)
    }
  }
  await untilTrue(async () => {
    const [space, service] = await Promise.all([
      api.get(NAMESPACES, { name: 'kube-system' }),
      api.get(ENDPOINT_SLICES, { namespace: 'default', name: 'kubernetes' }),
    ])
    return space.ok && service.ok
  })
  return {
    kubeconfig,
    url: server,
    caPem: certificate.caPem,
    adminToken: token,
    api,
    async startControllers() {
      start('kube-controller-manager', [
        `--kubeconfig=${kubeconfig}`,
        `--service-account-private-key-file=${at('sa.key')}`,
        `--root-ca-file=${at('ca.crt')}`,
        '--secure-port=0',
      ])
      start('kube-scheduler', [`--kubeconfig=${kubeconfig}`, '--secure-port=0'])
      await untilTrue(async () => {
        const leases = await Promise.all(
          ['kube-controller-manager', 'kube-scheduler'].map((name) =>
            api.get(LEASES, { namespace: 'kube-system', name }),
          ),
        )
        // The last thing that the manager makes in a new cluster.
        const furnished = await api.get(SERVICE_ACCOUNTS, { namespace: 'default', name: 'default' })
        const root = await api.get(CONFIG_MAPS, {
          namespace: 'kube-system',
          name: 'kube-root-ca.crt',
        })
        return furnished.ok && root.ok && leases.every((lease) => lease.ok)
      })
    },
    [Symbol.asyncDispose]: dispose,
  }
}

/** Ports that nobody has right now. */
async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((each) => once(each, 'listening')))
  const ports = servers.map((each) => {
    const address = each.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  })
  await Promise.all(
    servers.map(async (each) => {
      const closed = once(each, 'close')
      each.close()
      await closed
    }),
  )
  return ports
}

if (import.meta.main) {
  const server = await startRealApiServer()
  if (process.argv.includes('--with-controllers')) await server.startControllers()
  process.stdout.write(`${server.kubeconfig}\n`)
  const wait = Promise.withResolvers<void>()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => wait.resolve())
  await wait.promise
  await server[Symbol.asyncDispose]()
}
