// SPDX-License-Identifier: Apache-2.0
// docs/compatibility.md names a test for each of Istio's: each file is there, and tells the story that it is named for.

import { existsSync, readFileSync } from 'node:fs'
import t from 'tap'

const root = new URL('../../', import.meta.url)
const page = readFileSync(new URL('docs/compatibility.md', root), 'utf8')
/** A row of the tables: theirs, our file, and our story where one of the file's is meant. */
const ROW =
  /^\| (?<theirs>[^|]+) \| `(?<file>test\/[^`]+)`(?:: (?<story>[^|]+?))?(?: \([^|]*\))? \|$/gm

void t.test('every row about tests leads to one', (t) => {
  const rows = [...page.matchAll(ROW)]
  t.ok(rows.length > 30, `${rows.length} rows`)
  for (const { groups = {} } of rows) {
    const { theirs = '', file = '', story } = groups
    const url = new URL(file, root)
    t.ok(existsSync(url), `${theirs}: ${file}`)
    if (story !== undefined && existsSync(url))
      t.ok(readFileSync(url, 'utf8').includes(story), `${theirs}: ${file} tells "${story}"`)
  }
  for (const [, file] of page.matchAll(/\((test\/[a-z0-9/.-]+\.test\.ts)\)/g))
    t.ok(existsSync(new URL(file ?? 'none', root)), file ?? 'none')
  t.end()
})
