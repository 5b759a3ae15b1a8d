// SPDX-License-Identifier: Apache-2.0
// The part of the image that is ours and npm's: Node, the packages that the product runs with, its source, what was compiled of it.

import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { isRecord } from '../render/functions.ts'
import type { Architecture } from './debian.ts'

export interface NpmPackage {
  readonly name: string
  readonly version: string
  readonly license: string
}

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))
/** Where the installation is in the image. */
export const HOME = 'opt/ambit'
const FOLDERS = ['agent', 'cli', 'controller', 'daemonset', 'lab', 'mesh', 'waypoint']
const FILES = ['package.json', 'LICENSE', 'CHANGELOG.md']
/** npm's name of an architecture. */
const NPM_CPU: Readonly<Record<Architecture, string>> = { amd64: 'x64', arm64: 'arm64' }
/** What packages carry that nobody loads: declarations, maps, sources in C, pages. */
const UNUSED = /\.(d\.[cm]?ts|map|md|markdown|flow|c|cc|cpp|h|hh|gyp|gypi)$/
/** Of koffi, whose binary is a package of its own. */
const UNUSED_FOLDERS = ['koffi/vendor', 'koffi/doc']

/** Installs the packages of package-lock.json, without those for development, and Node itself at /usr/bin/node. */
export function installPackages(
  root: string,
  cache: string,
  architecture: Architecture,
): readonly NpmPackage[] {
  const home = path.join(root, HOME)
  const cpu = NPM_CPU[architecture]
  mkdirSync(home, { recursive: true })
  for (const name of ['package.json', 'package-lock.json', '.npmrc'])
    cpSync(path.join(REPOSITORY, name), path.join(home, name))
  // On the Node of npm's own: scripts put ours first, on which a distribution's npm does not run.
  const PATH = (process.env['PATH'] ?? '')
    .split(':')
    .filter((each) => !each.endsWith('node_modules/.bin'))
    .join(':')
  execFileSync(
    'npm',
    [
      'ci',
      '--omit=dev',
      '--ignore-scripts',
      '--no-audit',
      '--no-fund',
      '--loglevel=error',
      '--os=linux',
      `--cpu=${cpu}`,
      '--libc=glibc',
      `--cache=${path.join(cache, 'npm')}`,
    ],
    {
      cwd: home,
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, PATH, ...asMachine(cache, cpu) },
    },
  )
  const modules = path.join(home, 'node_modules')
  const packages = packagesIn(modules)
  const node = path.join(modules, `node-linux-${cpu}`)
  cpSync(path.join(node, 'bin/node'), path.join(root, 'usr/bin/node'))
  chmodSync(path.join(root, 'usr/bin/node'), 0o755)
  for (const name of [`node-linux-${cpu}`, '.bin', '.package-lock.json', ...UNUSED_FOLDERS])
    rmSync(path.join(modules, name), { recursive: true, force: true })
  removeUnused(modules)
  for (const name of ['package-lock.json', '.npmrc']) rmSync(path.join(home, name))
  return packages
}

/** npm before 10 knows no --cpu and asks its Node which machine this is: that says what is wanted. */
function asMachine(cache: string, cpu: string): Readonly<Record<string, string>> {
  const file = path.join(cache, `machine-${cpu}.cjs`)
  writeFileSync(file, `Object.defineProperty(process, 'arch', { value: '${cpu}' })\n`)
  return { NODE_OPTIONS: `--require ${JSON.stringify(file)}` }
}

/** Copies the product: its source, and what was compiled into `built`. */
export function copyProduct(root: string, built: BuiltFiles): void {
  const home = path.join(root, HOME)
  for (const name of FOLDERS) copy(name, home)
  for (const name of FILES) cpSync(path.join(REPOSITORY, name), path.join(home, name))
  for (const name of readdirSync(path.join(REPOSITORY, 'native')))
    if (name.endsWith('.ts'))
      cpSync(path.join(REPOSITORY, 'native', name), path.join(home, 'native', name))
  for (const [from, to] of [
    [built.programs, 'bpf/build/capture.bpf.o'],
    [built.library, 'native/build/libambit-native.so'],
    [built.sockets, 'native/build/ambit-sockets.node'],
    [built.plugin, 'native/build/ambit-cni'],
  ] as const) {
    mkdirSync(path.dirname(path.join(home, to)), { recursive: true })
    cpSync(from, path.join(home, to))
  }
}

/** What make has made, for the image's architecture. */
export interface BuiltFiles {
  readonly programs: string
  readonly library: string
  readonly sockets: string
  readonly plugin: string
}

/** A folder as git has it: what lies about in a working copy is no part of an image. */
function copy(folder: string, home: string): void {
  const files = execFileSync('git', ['-C', REPOSITORY, 'ls-files', '-z', folder], {
    encoding: 'utf8',
  })
  for (const file of files.split('\0').filter((each) => each !== ''))
    cpSync(path.join(REPOSITORY, file), path.join(home, file))
}

function removeUnused(directory: string): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const file = path.join(directory, entry.name)
    if (entry.isFile() && UNUSED.test(file) && !/licen[cs]e/i.test(entry.name)) rmSync(file)
    else if (entry.isDirectory()) removeUnused(file)
  }
}

function packagesIn(modules: string): readonly NpmPackage[] {
  const lock = readJson(path.join(modules, '.package-lock.json'))
  const packages = isRecord(lock['packages']) ? lock['packages'] : {}
  return Object.entries(packages).flatMap(([place, entry]) => {
    if (!isRecord(entry) || !exists(path.join(path.dirname(modules), place))) return []
    const name = place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length)
    return { name, version: String(entry['version']), license: licenseOf(entry['license']) }
  })
}

const licenseOf = (value: unknown): string => (typeof value === 'string' ? value : 'NOASSERTION')

function readJson(file: string): Readonly<Record<string, unknown>> {
  const value: unknown = JSON.parse(readFileSync(file, 'utf8'))
  return isRecord(value) ? value : {}
}

const exists = (file: string): boolean => statSync(file, { throwIfNoEntry: false }) !== undefined
