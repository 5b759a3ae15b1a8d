// SPDX-License-Identifier: Apache-2.0
// The files of the page, read once: no path of a request ever leads to the disk. The page's TypeScript is served with its types
// stripped, as Node itself runs the rest of this repository, so that it is checked and linted like everything else and needs no build.

import { readdirSync, readFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { extname } from 'node:path'

export interface Asset {
  readonly type: string
  readonly body: string
}

const PAGE = new URL('../page/', import.meta.url)
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.ts': 'text/javascript; charset=utf-8',
}

/** By their names. */
export function readAssets(): ReadonlyMap<string, Asset> {
  const assets = new Map<string, Asset>()
  for (const name of readdirSync(PAGE)) {
    const extension = extname(name)
    const type = TYPES[extension]
    if (type === undefined) continue
    const text = readFileSync(new URL(name, PAGE), 'utf8')
    assets.set(name, { type, body: extension === '.ts' ? stripTypeScriptTypes(text) : text })
  }
  return assets
}
