// SPDX-License-Identifier: Apache-2.0
// The programs of a real cluster: Kubernetes, containerd and CoreDNS built from their Go modules, etcd, runc and the CNI plugins from
// Debian's packages. Made once and kept in a cache folder; what is there is not made again.

import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { chmod, copyFile, mkdir, rename, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { command } from '../machine/command.ts'
import { runGo } from '../machine/go.ts'
import { requireTool } from '../machine/requirements.ts'
import { writeKubernetesModule } from './go-module.ts'
import {
  type ClusterKind,
  kubernetesDirectory,
  PROGRAMS_DIRECTORY,
  ROOM,
  SOURCES_DIRECTORY,
  TOOLS_DIRECTORY,
} from './layout.ts'

/** Unless another is asked for. */
export const KUBERNETES_VERSION = 'v1.37.2'
/** containerd 1.x is too old for the kubelet of the newest Kubernetes; the oldest takes 2.x as well. */
const CONTAINERD_VERSION = 'v2.4.2'
const KUBE_ROUTER_VERSION = 'v2.1.0'

const KUBERNETES = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
]
const CONTAINERD = ['containerd', 'containerd-shim-runc-v2', 'ctr']
/** Package, and where its programs lie in it. */
const DEBIAN: readonly (readonly [name: string, from: string, programs: readonly string[]])[] = [
  ['etcd-server', 'usr/bin', ['etcd']],
  ['runc', 'usr/sbin', ['runc']],
  [
    'containernetworking-plugins',
    'usr/lib/cni',
    ['bridge', 'host-local', 'loopback', 'portmap', 'ptp'],
  ],
]
/** Tests look for these (CONTRIBUTING, "Against a true API server"). */
const FOR_TESTS = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler']

const FETCH_TIMEOUT_MS = 120_000
/** No C library, and whatever version the module names: it was made here. */
const GO_ENVIRONMENT = { CGO_ENABLED: '0', GOFLAGS: '-buildvcs=false -mod=mod' }

/** Without tables for debuggers. */
const SMALL = ['-ldflags=-s -w']

type Report = (line: string) => void

/** Of those that every version of Kubernetes shares. */
export const programPath = (name: string): string => join(PROGRAMS_DIRECTORY, name)
const missingIn = (directory: string, programs: readonly string[]): readonly string[] =>
  programs.filter((name) => !existsSync(join(directory, name)))

/** Makes what is missing for a cluster of this kind, and says what it does. Throws AmbitError where a tool is missing or a build fails. */
export async function ensurePrograms(
  { kubernetes: version, network }: ClusterKind,
  report: Report,
): Promise<void> {
  const shared = PROGRAMS_DIRECTORY
  const own = kubernetesDirectory(version)
  for (const directory of [shared, own]) {
    await mkdir(directory, { recursive: true })
    removeLeftovers(directory)
  }
  for (const [name, from, programs] of DEBIAN)
    if (missingIn(shared, programs).length > 0) await fromDebian(name, from, programs, report)
  const lacksKubernetes = missingIn(own, KUBERNETES).length > 0
  if (lacksKubernetes || missingIn(shared, [...CONTAINERD, 'coredns']).length > 0)
    requireTool('go', 'build a cluster')
  const module = join(SOURCES_DIRECTORY, `kubernetes-${version}`)
  if (lacksKubernetes) {
    report(`reading k8s.io/kubernetes ${version}`)
    await writeKubernetesModule(version, module)
  }
  const inKubernetes = (name: string): string => `k8s.io/kubernetes/cmd/${name}`
  const inContainerd = (name: string): string =>
    `github.com/containerd/containerd/v2/cmd/${name}@${CONTAINERD_VERSION}`
  const inKubeRouter = (name: string): string =>
    `github.com/cloudnativelabs/kube-router/v2/cmd/${name}@${KUBE_ROUTER_VERSION}`
  const kubernetes = { name: 'Kubernetes', programs: KUBERNETES, to: own, module }
  const flags = [`-ldflags=-s -w ${versionFlags(version)}`]
  await build({ ...kubernetes, package: inKubernetes, flags }, report)
  const containerd = { name: 'containerd', programs: CONTAINERD, to: shared }
  await build({ ...containerd, package: inContainerd, flags: SMALL }, report)
  const dns = { name: 'CoreDNS', programs: ['coredns'], to: shared, module: join(ROOM, 'coredns') }
  await build({ ...dns, package: () => '.', flags: SMALL }, report)
  if (network === 'kube-router') {
    const router = { name: 'kube-router', programs: ['kube-router'], to: shared }
    await build({ ...router, package: inKubeRouter, flags: SMALL }, report)
  }
  await mkdir(TOOLS_DIRECTORY, { recursive: true })
  for (const name of FOR_TESTS) {
    await rm(join(TOOLS_DIRECTORY, name), { force: true })
    const directory = KUBERNETES.includes(name) ? own : shared
    await symlink(join(directory, name), join(TOOLS_DIRECTORY, name))
  }
}

/** Unpacks programs of a package that is not installed: no service of it is to be started here. */
async function fromDebian(
  name: string,
  from: string,
  programs: readonly string[],
  report: Report,
): Promise<void> {
  requireTool('apt-get', `fetch Debian's package ${name}`)
  report(`fetching Debian's package ${name}`)
  const directory = makeWorkplace(PROGRAMS_DIRECTORY)
  try {
    const script = 'cd "$0"; apt-get download -q "$1"; dpkg-deb -x ./*.deb .'
    await command(['sh', '-euc', script, directory, name], { timeoutMs: FETCH_TIMEOUT_MS })
    for (const program of programs) {
      const path = programPath(program)
      await copyFile(join(directory, from, program), `${path}.new`)
      await chmod(`${path}.new`, 0o755)
      await rename(`${path}.new`, path)
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** A directory for what is not done yet, which says by its name whose it is. */
function makeWorkplace(beside: string): string {
  return mkdtempSync(join(beside, `.work-${process.pid}-`))
}

/** Of a build that was killed. */
function removeLeftovers(directory: string): void {
  for (const name of readdirSync(directory)) {
    const pid = /^\.work-(\d+)-/.exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      rmSync(join(directory, name), { recursive: true, force: true })
  }
}

/** Programs that share most of their packages, which are read and compiled once for all of them. */
interface Build {
  /** For people. */
  readonly name: string
  readonly programs: readonly string[]
  /** The directory that is to have them. */
  readonly to: string
  /** Besides those of every build. */
  readonly flags: readonly string[]
  /** Where a program's main package is; with a version where it is a module of its own that needs no other's versions. */
  readonly package: (program: string) => string
  /** The directory of the Go module that they are built in. */
  readonly module?: string
}

/** Builds those that are missing by one call of go, however long it takes, and tells every few seconds how far it is. */
async function build(
  { name, programs, to, flags, ...source }: Build,
  report: Report,
): Promise<void> {
  const missing = missingIn(to, programs)
  if (missing.length === 0) return
  const packages = missing.map(source.package)
  const directory = makeWorkplace(to)
  try {
    const { module } = source
    const total =
      module === undefined ? undefined : await countPackages(name, packages, module, report)
    const verb = module === undefined ? ['install'] : ['build', '-o', `${directory}/`]
    const startMs = performance.now()
    await runGo([...verb, '-v', '-trimpath', ...flags, ...packages], {
      what: `building ${name}: ${missing.join(', ')}`,
      directory: module ?? '/',
      environment: { ...GO_ENVIRONMENT, GOBIN: directory },
      total,
      report,
    })
    for (const program of missing) {
      const path = join(to, program)
      cpSync(join(directory, program), `${path}.new`)
      await rename(`${path}.new`, path)
    }
    report(`built ${name} in ${((performance.now() - startMs) / 1000).toFixed(0)} s`)
  } catch (thrown) {
    throw new AmbitError('AMB_CLUSTER', errorMessage(thrown), { cause: thrown })
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** How many packages programs of a module consist of: as many as may have to be compiled. Loads the modules that are missing. */
async function countPackages(
  name: string,
  packages: readonly string[],
  directory: string,
  report: Report,
): Promise<number> {
  const what = `reading the packages of ${name}`
  const listed = await runGo(['list', '-deps', ...packages], {
    what,
    directory,
    environment: GO_ENVIRONMENT,
    report,
  })
  return listed.trim().split('\n').length
}

/** Kubernetes compares versions of its parts; unset they are v0.0.0. */
function versionFlags(version: string): string {
  const variable = 'k8s.io/component-base/version'
  const [major, minor] = version.slice(1).split('.')
  return [
    `-X ${variable}.gitVersion=${version}`,
    `-X ${variable}.gitMajor=${major ?? ''}`,
    `-X ${variable}.gitMinor=${minor ?? ''}`,
  ].join(' ')
}
