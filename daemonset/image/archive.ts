// SPDX-License-Identifier: Apache-2.0
// An OCI image of layers, as an archive that containerd, podman, skopeo and crane take: the same bytes for the same files.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { gunzipSync } from 'node:zlib'
import { VERSION } from '../../mesh/program/version.ts'
import { HOME } from './application.ts'
import type { Architecture } from './debian.ts'
import { type Layer, USER } from './root-fs.ts'

export interface ArchiveOptions {
  readonly layers: readonly Layer[]
  readonly architecture: Architecture
  /** The time of every file and of the image: that of the commit. */
  readonly epochSeconds: number
  /** An empty directory. */
  readonly directory: string
  readonly file: string
}

/** How the image runs; the Dockerfile says the same. */
export const RUN_CONFIG = {
  User: `${USER}:${USER}`,
  Env: ['PATH=/usr/bin', 'NODE_COMPILE_CACHE=/var/cache/ambit'],
  Entrypoint: [`/${HOME}/cli/bin/ambit`],
  Cmd: ['--help'],
  WorkingDir: '/',
} as const

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

const TYPES = 'application/vnd.oci.image'

/** Writes the archive; gives the digest of its manifest. */
export function writeArchive({
  layers,
  architecture,
  epochSeconds,
  directory,
  file,
}: ArchiveOptions): string {
  const blobs = path.join(directory, 'blobs/sha256')
  mkdirSync(blobs, { recursive: true })
  const blob = (mediaType: string, content: Buffer): Descriptor => {
    const hash = sha256(content)
    writeFileSync(path.join(blobs, hash), content)
    return { mediaType, digest: `sha256:${hash}`, size: content.length }
  }
  const created = new Date(epochSeconds * 1000).toISOString().replace('.000', '')
  const packed = layers.map((layer) => packedLayer(layer.directory, epochSeconds, directory))
  const config = blob(
    `${TYPES}.config.v1+json`,
    json({
      created,
      architecture,
      os: 'linux',
      config: { ...RUN_CONFIG, Labels: labels(created) },
      rootfs: {
        type: 'layers',
        diff_ids: packed.map((each) => `sha256:${sha256(gunzipSync(each))}`),
      },
      history: layers.map(({ what }) => ({ created, created_by: what })),
    }),
  )
  const manifest = blob(
    `${TYPES}.manifest.v1+json`,
    json({
      schemaVersion: 2,
      mediaType: `${TYPES}.manifest.v1+json`,
      config,
      layers: packed.map((each) => blob(`${TYPES}.layer.v1.tar+gzip`, each)),
      annotations: labels(created),
    }),
  )
  const names = {
    'org.opencontainers.image.ref.name': VERSION,
    // What containerd calls it when it is imported, and the kubelet when a pod says ambit:VERSION.
    'io.containerd.image.name': `docker.io/library/ambit:${VERSION}`,
  }
  const index = { ...manifest, platform: { architecture, os: 'linux' }, annotations: names }
  writeFileSync(path.join(directory, 'oci-layout'), json({ imageLayoutVersion: '1.0.0' }))
  writeFileSync(path.join(directory, 'index.json'), json({ schemaVersion: 2, manifests: [index] }))
  tar(directory, ['-cf', file, 'blobs', 'index.json', 'oci-layout'], epochSeconds)
  return manifest.digest
}

function labels(created: string): Readonly<Record<string, string>> {
  return {
    'org.opencontainers.image.title': 'ambit',
    'org.opencontainers.image.version': VERSION,
    'org.opencontainers.image.created': created,
    'org.opencontainers.image.licenses': 'Apache-2.0',
    'org.opencontainers.image.description': 'Ambit: agent, controller, waypoint and command',
  }
}

function packedLayer(root: string, epochSeconds: number, scratch: string): Buffer {
  const file = path.join(scratch, 'layer.tar')
  tar(root, ['-cf', file, '.'], epochSeconds)
  execFileSync('gzip', ['--no-name', '--force', file])
  const packed = readFileSync(`${file}.gz`)
  rmSync(`${file}.gz`)
  return packed
}

/** In the order of names, root's, without what differs from one machine or minute to the next. */
function tar(directory: string, args: readonly string[], epochSeconds: number): void {
  const steady = [
    '--sort=name',
    `--mtime=@${epochSeconds}`,
    '--owner=0',
    '--group=0',
    '--numeric-owner',
    '--format=posix',
    '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime',
    '--transform=s,^\\./,,',
  ]
  execFileSync('tar', ['-C', directory, ...steady, ...args])
}

const sha256 = (content: Buffer): string => createHash('sha256').update(content).digest('hex')
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
