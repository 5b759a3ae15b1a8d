// SPDX-License-Identifier: Apache-2.0
// The part of the image that comes from Debian: what Node and libbpf link against, and a shell for the command's own launcher.

import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import path from 'node:path'

/** The architectures that there are images of, as Debian and OCI name them. */
export type Architecture = 'amd64' | 'arm64'

export interface DebianPackage {
  readonly name: string
  readonly version: string
  /** Of the .deb. */
  readonly sha256: string
}

/** libc and libstdc++ are Node's, libbpf with its libelf and zlib the agent's; busybox has the sh, readlink and dirname of cli/bin/ambit. */
const PACKAGES = [
  'libc6',
  'libgcc-s1',
  'libstdc++6',
  'libatomic1',
  'libbpf1',
  'libelf1',
  'zlib1g',
  'busybox-static',
]
/** Where everything belongs that packages put into / itself. */
const MERGED = ['bin', 'sbin', 'lib', 'lib64']
/** What the launcher calls, and what a person wants who looks into a pod. */
const APPLETS = ['sh', 'readlink', 'dirname', 'cat', 'ls', 'ps', 'wget', 'env']
/** Of no use to a program. Licences stay. */
const UNUSED = ['usr/share/man', 'usr/share/lintian', 'usr/share/doc-base', 'usr/share/bug']

/** Fetches the packages into `cache` and unpacks them into `root`. */
export function unpackDebian(
  root: string,
  cache: string,
  architecture: Architecture,
): readonly DebianPackage[] {
  mkdirSync(root, { recursive: true })
  for (const name of MERGED) {
    mkdirSync(path.join(root, 'usr', name), { recursive: true })
    symlinkSync(`usr/${name}`, path.join(root, name))
  }
  const packages = fetchPackages(cache, architecture).map((file) => {
    const [name, version] = run('dpkg-deb', [
      '-W',
      '--showformat=${Package}\\n${Version}',
      file,
    ]).split('\n')
    run('sh', [
      '-ec',
      'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"',
      'sh',
      file,
      root,
    ])
    return {
      name: name ?? '',
      version: version ?? '',
      sha256: run('sha256sum', [file]).slice(0, 64),
    }
  })
  for (const name of UNUSED) rmSync(path.join(root, name), { recursive: true, force: true })
  for (const applet of APPLETS) {
    rmSync(path.join(root, 'usr/bin', applet), { force: true })
    symlinkSync('busybox', path.join(root, 'usr/bin', applet))
  }
  return packages.toSorted((one, other) => (one.name < other.name ? -1 : 1))
}

/** The newest of each that the machine's sources have; of another architecture by lists of its own, so that the machine stays as it is. */
function fetchPackages(cache: string, architecture: Architecture): readonly string[] {
  const directory = path.join(cache, `debs-${architecture}`)
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const isOwn = run('dpkg', ['--print-architecture']).trim() === architecture
  const options = isOwn ? [] : foreignLists(cache, architecture)
  const names = isOwn ? PACKAGES : PACKAGES.map((name) => `${name}:${architecture}`)
  // apt-get would drop its rights to a user of its own, who may not write here.
  const own = ['-o', 'APT::Sandbox::User=root']
  execFileSync('apt-get', [...own, ...options, 'download', ...names], {
    cwd: directory,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return readdirSync(directory)
    .toSorted()
    .map((name) => path.join(directory, name))
}

function foreignLists(cache: string, architecture: Architecture): readonly string[] {
  const state = path.join(cache, `apt-${architecture}`)
  for (const name of ['lists/partial', 'cache/archives/partial'])
    mkdirSync(path.join(state, name), { recursive: true })
  const options = [
    ['APT::Architecture', architecture],
    ['APT::Architectures', architecture],
    ['Dir::State::lists', path.join(state, 'lists')],
    ['Dir::Cache', path.join(state, 'cache')],
    ['Dir::State::status', '/dev/null'],
    ['APT::Sandbox::User', 'root'],
  ].flatMap(([name, value]) => ['-o', `${name ?? ''}=${value ?? ''}`])
  execFileSync('apt-get', [...options, 'update', '-qq'], { stdio: ['ignore', 'ignore', 'inherit'] })
  return options
}

function run(program: string, args: readonly string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
}
