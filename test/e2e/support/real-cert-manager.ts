// SPDX-License-Identifier: Apache-2.0
// cert-manager's own controller, for the tests that want the real one. It runs on the machine, beside the API server that it is told of, as
// its administrator; what it may do is not what these tests are about.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Names a checkout of cert-manager with its controller built in it. */
const VARIABLE = 'AMBIT_CERT_MANAGER'
const PROGRAM = 'cert-manager-controller'
const KINDS = 'deploy/crds'
/** Where ClusterIssuers have their Secrets. */
export const ISSUERS_NAMESPACE = 'cert-manager'

/** For tap's `skip` option: what of cert-manager this machine does not have. */
export function missingCertManager(): string | false {
  const root = process.env[VARIABLE]
  if (root === undefined)
    return `${VARIABLE} names no checkout of cert-manager (CONTRIBUTING, "With cert-manager")`
  const absent = [PROGRAM, KINDS].filter((path) => !existsSync(join(root, path)))
  return absent.length > 0 && `${VARIABLE}=${root} lacks ${absent.join(', ')}`
}

/** The definitions of its kinds, as YAML. */
export function certManagerKinds(): string {
  const directory = join(process.env[VARIABLE] ?? '', KINDS)
  return readdirSync(directory)
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => readFileSync(join(directory, name), 'utf8'))
    .join('\n---\n')
}

export interface CertManager extends AsyncDisposable {
  /** What it has written so far. */
  log(): string
}

/** Starts it, with the controllers that sign CertificateSigningRequests. Its kinds must be there. */
export function startCertManager(kubeconfig: string): CertManager {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-cert-manager-'))
  const file = join(directory, 'log')
  const log = openSync(file, 'a')
  const child = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', join(process.env[VARIABLE] ?? '', PROGRAM)],
      `--kubeconfig=${kubeconfig}`,
      '--feature-gates=ExperimentalCertificateSigningRequestControllers=true',
      `--cluster-resource-namespace=${ISSUERS_NAMESPACE}`,
      '--leader-elect=false',
      '--metrics-listen-address=127.0.0.1:0',
      '--internal-healthz-listen-address=127.0.0.1:0',
    ],
    { stdio: ['ignore', log, log] },
  )
  closeSync(log)
  return {
    log: () => readFileSync(file, 'utf8'),
    [Symbol.asyncDispose]: async () => {
      await end(child)
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  await exited
}
