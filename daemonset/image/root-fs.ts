// SPDX-License-Identifier: Apache-2.0
// Puts the root file system of the image together, in layers from what changes least to what changes most.

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { VERSION } from '../../mesh/program/version.ts'
import { type BuiltFiles, copyProduct, installPackages } from './application.ts'
import { type Architecture, unpackDebian } from './debian.ts'
import { spdxDocument } from './sbom.ts'

export interface RootOptions {
  /** An empty directory, below which each layer gets one. */
  readonly directory: string
  /** Kept between builds. */
  readonly cache: string
  readonly architecture: Architecture
  readonly built: BuiltFiles
  readonly epochSeconds: number
  readonly report: (line: string) => void
}

export interface Layer {
  readonly what: string
  readonly directory: string
}

/** Nobody in particular: controllers and waypoints bring their own, agents are root by the chart. */
export const USER = 65_532

const TEXTS: Readonly<Record<string, string>> = {
  'etc/passwd': `root:x:0:0:root:/root:/bin/sh\nambit:x:${USER}:${USER}:ambit:/:/bin/sh\n`,
  'etc/group': `root:x:0:\nambit:x:${USER}:\n`,
  'etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
  'etc/os-release': `ID=ambit\nNAME=Ambit\nVERSION_ID=${VERSION}\n`,
}
/** Where a pod's mounts go; the root itself is read-only. */
const MOUNT_POINTS = [
  'dev',
  'proc',
  'sys',
  'run',
  'var/run',
  'var/cache/ambit',
  'host/proc',
  'root',
]

/** Makes the layers; gives them with the text of the SBOM, which is in the last of them. */
export function makeRoot(options: RootOptions): {
  readonly layers: readonly Layer[]
  readonly sbom: string
} {
  const { directory, cache, architecture, report } = options
  const [system, packages, product] = ['system', 'packages', 'product'].map((name) =>
    path.join(directory, name),
  )
  if (system === undefined || packages === undefined || product === undefined)
    throw new Error('no layers')
  report('packages of Debian')
  const debian = unpackDebian(system, cache, architecture)
  for (const name of MOUNT_POINTS) mkdirSync(path.join(system, name), { recursive: true })
  mkdirSync(path.join(system, 'tmp'))
  // Not by mkdir, whose mode the umask of whoever builds cuts down.
  chmodSync(path.join(system, 'tmp'), 0o1777)
  mkdirSync(path.join(system, 'etc'), { recursive: true })
  for (const [name, text] of Object.entries(TEXTS)) writeFileSync(path.join(system, name), text)
  report('Node and the packages of npm')
  mkdirSync(path.join(packages, 'usr/bin'), { recursive: true })
  const npm = installPackages(packages, cache, architecture)
  report('Ambit itself')
  copyProduct(product, options.built)
  const sbom = spdxDocument({ architecture, debian, npm, epochSeconds: options.epochSeconds })
  mkdirSync(path.join(product, 'usr/share/sbom'), { recursive: true })
  writeFileSync(path.join(product, 'usr/share/sbom/ambit.spdx.json'), sbom)
  return {
    layers: [
      { what: 'packages of Debian', directory: system },
      { what: 'Node and packages of npm', directory: packages },
      { what: `Ambit ${VERSION}`, directory: product },
    ],
    sbom,
  }
}
