// SPDX-License-Identifier: Apache-2.0
// The image of the sample application holds whatever its programs import.

import { readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'
import { SAMPLE_PARTS } from '../../lab/real/images.ts'

const REPOSITORY = join(import.meta.dirname, '../..')
const PROGRAMS = ['server.ts', 'client.ts', 'load.ts', 'hold.ts']
const RELATIVE_IMPORT = /^(?:import|export) (?!type ).*from '(\.[^']*)'/gm

/** The files that a program consists of, by their paths from the repository's root. */
function filesOf(file: string, found = new Set<string>()): ReadonlySet<string> {
  if (found.has(file)) return found
  found.add(file)
  for (const [, imported = ''] of readFileSync(join(REPOSITORY, file), 'utf8').matchAll(
    RELATIVE_IMPORT,
  ))
    filesOf(normalize(join(dirname(file), imported)), found)
  return found
}

const isInImage = (file: string): boolean =>
  SAMPLE_PARTS.some((part) => file === part || file.startsWith(`${part}/`))

for (const program of PROGRAMS)
  void t.test(program, (t) => {
    const files = [...filesOf(`lab/samples/${program}`)]
    t.strictSame(
      files.filter((file) => !isInImage(file)),
      [],
    )
    t.end()
  })
