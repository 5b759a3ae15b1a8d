// SPDX-License-Identifier: Apache-2.0
// Container images of one layer, made of files of this machine: no engine, no registry, no base image. What a dynamic program needs comes
// along as ldd finds it.

import { createHash } from 'node:crypto'
import { createReadStream, existsSync, realpathSync } from 'node:fs'
import {
  chmod,
  copyFile,
  cp,
  mkdir,
  mkdtemp,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { command, tryCommand } from '../machine/command.ts'

export interface ImageContent {
  /** `localhost/NAME:TAG`: a kubelet asks nobody for those that are there. */
  readonly name: string
  /** Paths in the image, each from a file or folder of this machine. */
  readonly files: Readonly<Record<string, string>>
  /** Programs of this machine at the same paths, with the libraries that they load. */
  readonly programs: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly workingDirectory?: string
}

const PASSWD = 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n'
const GROUP = 'root:x:0:\nnogroup:x:65534:\n'
const FOLDERS = ['dev', 'etc', 'proc', 'root', 'run', 'sys', 'tmp', 'var']
/** Below /usr, as distributions have them now, with links at their old places. */
const MERGED = ['bin', 'lib', 'lib64', 'sbin']
const WORLD_WRITABLE = 0o1777
const TAR_TIMEOUT_MS = 300_000

/** Writes the image as an archive that `ctr images import` takes. */
export async function makeImage(content: ImageContent, archive: string): Promise<void> {
  await mkdir(dirname(archive), { recursive: true })
  const work = await mkdtemp(join(dirname(archive), '.image-'))
  try {
    const root = join(work, 'root')
    await fill(root, content)
    const layer = join(work, 'layer.tar')
    await tar(layer, root)
    const digest = await sha256(layer)
    const environment = {
      PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin',
      ...content.environment,
    }
    const config = JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: {
        Env: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
        ...(content.entrypoint === undefined ? {} : { Entrypoint: content.entrypoint }),
        WorkingDir: content.workingDirectory ?? '/',
      },
      rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
    })
    const configName = `${createHash('sha256').update(config).digest('hex')}.json`
    const manifest = [{ Config: configName, RepoTags: [content.name], Layers: ['layer.tar'] }]
    await rm(root, { recursive: true })
    await writeFile(join(work, configName), config)
    await writeFile(join(work, 'manifest.json'), JSON.stringify(manifest))
    await tar(`${archive}.new`, work)
    await rename(`${archive}.new`, archive)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function fill(root: string, content: ImageContent): Promise<void> {
  for (const folder of FOLDERS) await mkdir(join(root, folder), { recursive: true })
  for (const folder of MERGED) {
    await mkdir(join(root, 'usr', folder), { recursive: true })
    await symlink(`usr/${folder}`, join(root, folder))
  }
  await chmod(join(root, 'tmp'), WORLD_WRITABLE)
  await symlink('/run', join(root, 'var/run'))
  await writeFile(join(root, 'etc/passwd'), PASSWD)
  await writeFile(join(root, 'etc/group'), GROUP)
  await writeFile(join(root, 'etc/nsswitch.conf'), 'hosts: files dns\n')
  for (const [path, source] of Object.entries(content.files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await cp(source, join(root, path), { recursive: true, verbatimSymlinks: true })
  }
  const programs = [...content.programs, ...Object.values(content.files)]
  for (const path of new Set([...content.programs, ...(await librariesOf(programs))])) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await copyFile(realpathSync(path), join(root, path))
  }
}

/** What ldd finds for those that are dynamic programs; of others nothing. */
async function librariesOf(paths: readonly string[]): Promise<ReadonlySet<string>> {
  const found = new Set<string>()
  for (const path of paths) {
    const { stdout } = await tryCommand(['ldd', path])
    for (const [, library = ''] of stdout.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm))
      if (existsSync(library)) found.add(library)
  }
  return found
}

async function tar(archive: string, directory: string): Promise<void> {
  const owner = ['--owner=0', '--group=0', '--numeric-owner']
  await command(['tar', ...owner, '--sort=name', '-cf', archive, '-C', directory, '.'], {
    timeoutMs: TAR_TIMEOUT_MS,
  })
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) hash.update(chunk)
  return hash.digest('hex')
}
