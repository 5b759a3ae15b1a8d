// SPDX-License-Identifier: Apache-2.0
// The programs of a real cluster: Kubernetes, containerd and CoreDNS built from their Go modules, etcd, runc and the CNI plugins from
// Debian's packages. Made once and kept in a cache folder; what is there is not made again.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { chmod, copyFile, mkdir, rename, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { AmbitError } from '../../mesh/errors.ts'
import { command, tryCommand } from '../machine/command.ts'
import { requireTool } from '../machine/requirements.ts'
import { writeKubernetesModule } from './go-module.ts'
import { PROGRAMS_DIRECTORY, ROOM, SOURCES_DIRECTORY, TOOLS_DIRECTORY } from './layout.ts'

/** What was tried; containerd 1.x is too old for a kubelet of this. */
const KUBERNETES_VERSION = 'v1.37.2'
const CONTAINERD_VERSION = 'v2.4.2'

/** The two without which the API server's own tests are skipped come first. */
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
const QUOTED_OUTPUT_BYTES = 2000

type Report = (line: string) => void

export const programPath = (name: string): string => join(PROGRAMS_DIRECTORY, name)
const isThere = (name: string): boolean => existsSync(programPath(name))

/** Makes what is missing, and says what it does. Throws AmbitError where a tool is missing or a build fails. */
export async function ensurePrograms(report: Report): Promise<void> {
  await mkdir(PROGRAMS_DIRECTORY, { recursive: true })
  removeLeftovers()
  for (const [name, from, programs] of DEBIAN)
    if (!programs.every(isThere)) await fromDebian(name, from, programs, report)
  if (![...KUBERNETES, ...CONTAINERD, 'coredns'].every(isThere))
    requireTool('go', 'build a cluster')
  const module = join(SOURCES_DIRECTORY, `kubernetes-${KUBERNETES_VERSION}`)
  if (!KUBERNETES.every(isThere)) {
    report(`reading k8s.io/kubernetes ${KUBERNETES_VERSION}`)
    await writeKubernetesModule(KUBERNETES_VERSION, module)
  }
  for (const name of KUBERNETES)
    await build(name, { package: `k8s.io/kubernetes/cmd/${name}`, directory: module }, report)
  for (const name of CONTAINERD) {
    const path = `github.com/containerd/containerd/v2/cmd/${name}`
    await build(name, { package: `${path}@${CONTAINERD_VERSION}` }, report)
  }
  await build('coredns', { package: '.', directory: join(ROOM, 'coredns') }, report)
  await mkdir(TOOLS_DIRECTORY, { recursive: true })
  for (const name of FOR_TESTS) {
    await rm(join(TOOLS_DIRECTORY, name), { force: true })
    await symlink(programPath(name), join(TOOLS_DIRECTORY, name))
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
  const directory = makeWorkplace()
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
function makeWorkplace(): string {
  return mkdtempSync(join(PROGRAMS_DIRECTORY, `.work-${process.pid}-`))
}

/** Of a build that was killed. */
function removeLeftovers(): void {
  for (const name of readdirSync(PROGRAMS_DIRECTORY)) {
    const pid = /^\.work-(\d+)-/.exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      rmSync(join(PROGRAMS_DIRECTORY, name), { recursive: true, force: true })
  }
}

interface Source {
  /** With a version where it is a module of its own that needs no other's versions. */
  readonly package: string
  /** Of the Go module that it is built in. */
  readonly directory?: string
}

/**
 * How many packages a program of a module consists of: as many as may have to be compiled. Undefined where go cannot say, which the
 * build will explain.
 */
async function countPackages({ package: name, directory }: Source): Promise<number | undefined> {
  if (directory === undefined) return undefined
  const { code, stdout } = await tryCommand(['go', '-C', directory, 'list', '-deps', name], {
    env: goEnvironment(),
    timeoutMs: FETCH_TIMEOUT_MS,
  })
  return code === 0 ? stdout.trim().split('\n').length : undefined
}

function goEnvironment(): NodeJS.ProcessEnv {
  const flags = `${process.env['GOFLAGS'] ?? ''} -buildvcs=false -mod=mod`.trim()
  return { ...process.env, CGO_ENABLED: '0', GOFLAGS: flags }
}

/** Builds a program unless it is there, and tells how many packages were compiled every few seconds. */
async function build(name: string, source: Source, report: Report): Promise<void> {
  if (isThere(name)) return
  report(`building ${name}`)
  const total = await countPackages(source)
  const flags = ['-v', '-trimpath', `-ldflags=-s -w ${versionFlags()}`]
  const directory = makeWorkplace()
  const argv =
    source.directory === undefined
      ? ['install', ...flags, source.package]
      : ['build', ...flags, '-o', join(directory, name), source.package]
  const child = spawn('go', argv, {
    cwd: source.directory ?? '/',
    env: { ...goEnvironment(), GOBIN: directory },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const startMs = performance.now()
  let compiled = 0
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    compiled += text.split('\n').filter((line) => /^[a-z][\w.-]*(\/\S+)*$/.test(line)).length
    said = (said + text).slice(-QUOTED_OUTPUT_BYTES)
  })
  const seconds = (): string => ((performance.now() - startMs) / 1000).toFixed(0)
  const atMost = total === undefined ? '' : ` of ${total} at most`
  const timer = setInterval(
    () => report(`building ${name}: ${compiled} packages${atMost} compiled, ${seconds()} s`),
    PROGRESS_MS,
  )
  // Else the compiler would go on by itself. What it has compiled is kept in Go's own cache, and the next build goes on from there.
  const stop = (): void => void child.kill('SIGINT')
  for (const signal of ENDING) process.once(signal, stop)
  try {
    const [code] = (await once(child, 'exit')) as [number | null]
    if (code !== 0)
      throw new AmbitError('AMB_CLUSTER', `Cannot build ${name}: go says:\n${said.trim()}`)
    cpSync(join(directory, name), `${programPath(name)}.new`)
    await rename(`${programPath(name)}.new`, programPath(name))
    report(`built ${name} in ${seconds()} s`)
  } finally {
    clearInterval(timer)
    for (const signal of ENDING) process.removeListener(signal, stop)
    rmSync(directory, { recursive: true, force: true })
  }
}

const PROGRESS_MS = 5_000
const ENDING = ['SIGINT', 'SIGTERM'] as const

/** Kubernetes compares versions of its parts; unset they are v0.0.0. */
function versionFlags(): string {
  const variable = 'k8s.io/component-base/version'
  const [major, minor] = KUBERNETES_VERSION.slice(1).split('.')
  return [
    `-X ${variable}.gitVersion=${KUBERNETES_VERSION}`,
    `-X ${variable}.gitMajor=${major ?? ''}`,
    `-X ${variable}.gitMinor=${minor ?? ''}`,
  ].join(' ')
}
