// SPDX-License-Identifier: Apache-2.0
// The example that mesh/collections/index.ts shows a newcomer does what it says.

import { readFile } from 'node:fs/promises'
import t from 'tap'
import { Graph } from '../../mesh/collections/index.ts'

const INDEX = new URL('../../mesh/collections/index.ts', import.meta.url)

void t.test('the example at the head of mesh/collections prints what it says', async (t) => {
  const lines = (await readFile(INDEX, 'utf8'))
    .split('\n')
    .filter((line) => line.startsWith('//     '))
    .map((line) => line.slice('//     '.length))
  const promised = lines.flatMap((line) => /\/\/ prints: (.*)$/.exec(line)?.[1] ?? [])
  t.equal(promised.length, 2, 'the example is there')
  // Node strips types of files, not of a text: the example has them in two places only.
  const program = lines.join('\n').replaceAll(/<string, \{[^}]*\}>/g, '')
  const printed: string[] = []
  const console = {
    log: (...words: string[]) => void printed.push(words.join(' ')),
    error: (error: unknown) => t.fail(String(error)),
  }
  new Function('Graph', 'console', program)(Graph, console)
  t.strictSame(printed, promised)
})
