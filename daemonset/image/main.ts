// SPDX-License-Identifier: Apache-2.0
// scripts/image.sh: builds the image as an OCI archive, without a container engine, or with --root its root file system alone, which
// is what the Dockerfile copies.

import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { VERSION } from '../../mesh/program/version.ts'
import type { BuiltFiles } from './application.ts'
import { writeArchive } from './archive.ts'
import type { Architecture } from './debian.ts'
import { makeRoot } from './root-fs.ts'

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))
const CROSS_COMPILERS: Readonly<Record<Architecture, string>> = {
  amd64: 'x86_64-linux-gnu-',
  arm64: 'aarch64-linux-gnu-',
}

const { values } = parseArgs({
  options: {
    arch: { type: 'string' },
    output: { type: 'string', default: path.join(REPOSITORY, 'dist') },
    root: { type: 'string' },
    cache: { type: 'string' },
  },
})
const architecture = architectureOf(values.arch ?? ownArchitecture())
const cache =
  values.cache ??
  path.join(process.env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache'), 'ambit/image')
const work = mkdtempSync(path.join(tmpdir(), 'ambit-image-'))
try {
  build()
} finally {
  rmSync(work, { recursive: true, force: true })
}

function build(): void {
  mkdirSync(cache, { recursive: true })
  const epochSeconds = commitTime()
  const { layers, sbom } = makeRoot({
    directory: path.join(work, 'layers'),
    cache,
    architecture,
    built: builtFiles(),
    epochSeconds,
    report: say,
  })
  if (values.root !== undefined) {
    for (const { directory } of layers)
      cpSync(directory, values.root, { recursive: true, verbatimSymlinks: true })
    say(`the root file system is in ${values.root}`)
    return
  }
  mkdirSync(values.output, { recursive: true })
  const name = `ambit-${VERSION}-linux-${architecture}`
  const file = path.join(values.output, `${name}.tar`)
  say('layers, configuration, manifest')
  const digest = writeArchive({
    layers,
    architecture,
    epochSeconds,
    directory: path.join(work, 'oci'),
    file,
  })
  writeFileSync(path.join(values.output, `${name}.spdx.json`), sbom)
  say(
    `${path.relative(process.cwd(), file)}: ambit:${VERSION}, ${Math.round(statSync(file).size / 1e6)} MB, ${digest}`,
  )
}

/** The C of another architecture is compiled for it; eBPF is the same everywhere. */
function builtFiles(): BuiltFiles {
  const programs = path.join(REPOSITORY, 'bpf/build/capture.bpf.o')
  if (architecture === ownArchitecture())
    return {
      programs,
      library: path.join(REPOSITORY, 'native/build/libambit-native.so'),
      sockets: path.join(REPOSITORY, 'native/build/ambit-sockets.node'),
      plugin: path.join(REPOSITORY, 'native/build/ambit-cni'),
    }
  const prefix = CROSS_COMPILERS[architecture]
  const build = path.join(work, 'native')
  const make = (folder: string, ...args: readonly string[]): void => {
    execFileSync(
      'make',
      [
        '-s',
        '-C',
        path.join(REPOSITORY, folder),
        `CC=${prefix}gcc`,
        `STRIP=${prefix}strip`,
        `BUILD=${build}`,
        ...args,
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    )
  }
  say(`compiling for ${architecture} with ${prefix}gcc`)
  make('native', `${build}/libambit-native.so`, `${build}/ambit-sockets.node`)
  make('native/cni', `${build}/ambit-cni`)
  return {
    programs,
    library: path.join(build, 'libambit-native.so'),
    sockets: path.join(build, 'ambit-sockets.node'),
    plugin: path.join(build, 'ambit-cni'),
  }
}

/** Of the last commit, or SOURCE_DATE_EPOCH (reproducible-builds.org). */
function commitTime(): number {
  const given = process.env['SOURCE_DATE_EPOCH']
  if (given !== undefined && /^\d+$/.test(given)) return Number(given)
  return Number(
    execFileSync('git', ['-C', REPOSITORY, 'log', '-1', '--format=%ct'], { encoding: 'utf8' }),
  )
}

function architectureOf(text: string): Architecture {
  if (text === 'amd64' || text === 'arm64') return text
  throw new Error(`Cannot build for "${text}": there are images for amd64 and arm64`)
}

function ownArchitecture(): Architecture {
  return process.arch === 'arm64' ? 'arm64' : 'amd64'
}

function say(line: string): void {
  process.stderr.write(`image: ${line}\n`)
}
