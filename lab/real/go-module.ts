// SPDX-License-Identifier: Apache-2.0
// A Go module that builds programs of k8s.io/kubernetes from the module proxy. That module requires its staging modules
// (k8s.io/api and the like) at v0.0.0 and replaces them by paths, which the proxy's archive does not have: here each is
// pinned to v0.X.Y, and every other version is upstream's own.

import { mkdir, copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { command } from '../machine/command.ts'

const DOWNLOAD_TIMEOUT_MS = 300_000

/** Writes go.mod and go.sum for the version (vX.Y.Z) into the directory. */
export async function writeKubernetesModule(version: string, directory: string): Promise<void> {
  const answer = await command(['go', 'mod', 'download', '-json', `k8s.io/kubernetes@${version}`], {
    timeoutMs: DOWNLOAD_TIMEOUT_MS,
  })
  const { Dir: source } = JSON.parse(answer) as { readonly Dir: string }
  await mkdir(directory, { recursive: true })
  const upstream = await readFile(join(source, 'go.mod'), 'utf8')
  await writeFile(join(directory, 'go.mod'), pinnedModule(upstream, version))
  await copyFile(join(source, 'go.sum'), join(directory, 'go.sum'))
}

/** The text of that go.mod, from upstream's. Pure. */
export function pinnedModule(upstream: string, version: string): string {
  const staging = version.replace(/^v1/, 'v0')
  const lines = upstream.split('\n')
  const settings = lines.filter((line) => /^(go|godebug) /.test(line))
  const required = [...upstream.matchAll(/^require \([^)]*\)/gm)].map(([block]) =>
    block.replaceAll(/^(\tk8s\.io\/[a-z-]+) v0\.0\.0\b(?!-)/gm, `$1 ${staging}`),
  )
  const staged = [...upstream.matchAll(/^\t(k8s\.io\/[a-z-]+) => \.\/staging\//gm)].map(
    ([, name]) => `\t${name} => ${name} ${staging}`,
  )
  return [
    'module ambit.invalid/kubernetes',
    ...settings,
    `require k8s.io/kubernetes ${version}`,
    ...required,
    'replace (',
    ...staged,
    ')',
    '',
  ].join('\n')
}
