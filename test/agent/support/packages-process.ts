// SPDX-License-Identifier: Apache-2.0
// Loads a module and prints the packages that came with it, as JSON. Usage: packages-process.ts FILE

import { registerHooks } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const PACKAGE = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//
const packages = new Set<string>()
registerHooks({
  load: (url, context, nextLoad) => {
    const name = PACKAGE.exec(url)?.[1]
    if (name !== undefined) packages.add(name)
    return nextLoad(url, context)
  },
})
await import(pathToFileURL(path.resolve(process.argv[2] ?? '')).href)
console.log(JSON.stringify([...packages].toSorted()))
process.exit(0)
