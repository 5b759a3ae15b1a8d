// SPDX-License-Identifier: Apache-2.0
// The images that a cluster of ours runs: the pause of every pod, its DNS, the sample application and Ambit itself.

import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { command } from '../machine/command.ts'
import { type ImageContent, makeImage } from './image.ts'
import { IMAGES_DIRECTORY, PROGRAMS_DIRECTORY, ROOM } from './layout.ts'
import { programPath } from './programs.ts'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))
const COMPILE_TIMEOUT_MS = 60_000
/** Of the repository, what runs. */
const PARTS = [
  'agent',
  'bpf/build',
  'cli',
  'controller',
  'lab',
  'mesh',
  'native',
  'node_modules/.cache/ambit',
  'package.json',
  'waypoint',
]

/** What manifests have for `ambit:VERSION`, written out. */
const ambitImageName = (): string => `docker.io/library/ambit:${packageVersion()}`
export const SAMPLE_IMAGE = 'localhost/sample:cluster'
/** Of the repository, what the sample application and what drives load consist of. */
export const SAMPLE_PARTS: readonly string[] = ['lab/samples', 'mesh/node-http.ts', 'package.json']

/** Makes all of them as archives in IMAGES_DIRECTORY, where a node takes them from when it starts. */
export async function makeImages(report: (line: string) => void): Promise<void> {
  await mkdir(IMAGES_DIRECTORY, { recursive: true })
  const pause = join(PROGRAMS_DIRECTORY, 'pause')
  if (!existsSync(pause))
    await command(['gcc', '-static', '-Os', '-s', '-o', pause, join(ROOM, 'pause.c')], {
      timeoutMs: COMPILE_TIMEOUT_MS,
    })
  const images: readonly ImageContent[] = [
    {
      name: 'localhost/pause:cluster',
      files: { '/pause': pause },
      programs: [],
      entrypoint: ['/pause'],
    },
    {
      name: 'localhost/coredns:cluster',
      files: { '/coredns': programPath('coredns') },
      programs: [],
      entrypoint: ['/coredns'],
    },
    await sampleImage(),
    await ambitImage(),
  ]
  for (const content of images) {
    report(`making the image ${content.name}`)
    const short = /([^/:]+):/.exec(content.name)?.[1] ?? 'image'
    await makeImage(content, join(IMAGES_DIRECTORY, `${short}.tar`))
  }
}

const inRepository = (path: string): string => realpathSync(join(REPOSITORY, path))
const ourNode = (): string => inRepository('node_modules/.bin/node')

/** Node, a shell and curl, with the sample application. */
async function sampleImage(): Promise<ImageContent> {
  const files: Record<string, string> = { '/usr/local/bin/node': ourNode() }
  for (const part of SAMPLE_PARTS) files[`/app/${part}`] = inRepository(part)
  return {
    name: SAMPLE_IMAGE,
    files,
    programs: await pathsOf('sh', 'sleep', 'cat', 'curl'),
    workingDirectory: '/app',
  }
}

/** The repository as it stands, with the packages that the product needs. */
async function ambitImage(): Promise<ImageContent> {
  const files: Record<string, string> = {}
  for (const part of PARTS) files[`/ambit/${part}`] = inRepository(part)
  files['/ambit/node_modules/.bin/node'] = ourNode()
  for (const name of await productPackages())
    files[`/ambit/node_modules/${name}`] = inRepository(`node_modules/${name}`)
  return {
    name: ambitImageName(),
    files,
    programs: [...(await pathsOf('sh', 'env', 'dirname', 'readlink')), libraryPath('libbpf.so.1')],
    entrypoint: ['/ambit/cli/bin/ambit'],
  }
}

/** Without development's, and without Node itself, which lies beside them. */
async function productPackages(): Promise<readonly string[]> {
  const listed = await command([
    'npm',
    '--prefix',
    REPOSITORY,
    'ls',
    '--omit=dev',
    '--all',
    '--parseable',
  ])
  const folder = join(realpathSync(REPOSITORY), 'node_modules/')
  return listed
    .split('\n')
    .filter((path) => path.startsWith(folder))
    .map((path) => path.slice(folder.length))
    .filter((name) => !name.includes('/node_modules/') && !name.startsWith('node-linux-'))
}

async function pathsOf(...programs: readonly string[]): Promise<readonly string[]> {
  const found = await command(['sh', '-euc', 'for p; do command -v "$p"; done', 'sh', ...programs])
  return found.trim().split('\n')
}

function libraryPath(name: string): string {
  for (const folder of ['/lib', '/usr/lib'])
    for (const triple of existsSync(folder) ? readdirSync(folder) : []) {
      const path = join(folder, triple, name)
      if (triple.endsWith('-linux-gnu') && existsSync(path)) return path
    }
  throw new Error(`Cannot make an image: no ${name} on this machine`)
}

function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(inRepository('package.json'), 'utf8')) as {
    readonly version: string
  }
  return version
}
