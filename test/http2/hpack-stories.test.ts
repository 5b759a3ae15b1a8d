// SPDX-License-Identifier: Apache-2.0
// The stories of http2jp/hpack-test-case: header blocks that a dozen other encoders wrote, one behind the other over one connection each,
// and what they are to be read as. And what we write of the same headers, read by a decoder that only follows the RFC.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { HeaderBlockWriter, type HeaderList, HpackDecoder } from '../../mesh/http2/hpack.ts'
import { NaiveDecoder } from './naive-hpack.ts'

const FOLDER =
  process.env['AMBIT_HPACK_STORIES'] ??
  join(import.meta.dirname, '../../node_modules/.ambit-tools/hpack-test-case')
const skip = existsSync(FOLDER)
  ? false
  : 'the stories are missing: AMBIT_HPACK_STORIES names their folder, or scripts/setup.sh test fetches them'

/** Whole lists of real sites have some kilobytes. */
const LIST_LIMIT = 1024 * 1024
/** Headers without wire. */
const RAW = 'raw-data'
/** 31 stories of some 100 blocks each: fewer mean that they were not found. */
const FEWEST_BLOCKS = 3_000

interface Case {
  readonly wire?: string
  readonly headers: readonly Readonly<Record<string, string>>[]
}

function storiesOf(folder: string): readonly (readonly Case[])[] {
  const files = readdirSync(folder).filter((name) => /^story_\d+\.json$/.test(name))
  return files.sort().map((name) => {
    const story = JSON.parse(readFileSync(join(folder, name), 'utf8')) as {
      readonly cases: readonly Case[]
    }
    return story.cases
  })
}

/** Octets, as heads show them. */
function listOf({ headers }: Case): HeaderList {
  return headers.flatMap((each) =>
    Object.entries(each).map(
      ([name, value]) => [name, Buffer.from(value, 'utf8').toString('latin1')] as const,
    ),
  )
}

const encoders = skip
  ? []
  : readdirSync(FOLDER, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && storiesOf(join(FOLDER, entry.name)).length > 0)
      .map(({ name }) => name)

void t.test('all of them are there', { skip }, (t) => {
  t.ok(encoders.length >= 10 && encoders.includes(RAW), encoders.join(', '))
  t.end()
})

for (const encoder of encoders.filter((name) => name !== RAW))
  void t.test(`what ${encoder} wrote is read as it was meant`, (t) => {
    let blocks = 0
    for (const [at, cases] of storiesOf(join(FOLDER, encoder)).entries()) {
      const decoder = new HpackDecoder(LIST_LIMIT)
      for (const [number, each] of cases.entries()) {
        const block = Buffer.from(each.wire ?? '', 'hex')
        blocks += 1
        const { headers, isTooLarge } = decoder.decode(block)
        if (isTooLarge || JSON.stringify(headers) !== JSON.stringify(listOf(each)))
          t.strictSame(headers, listOf(each), `story ${at}, block ${number}`)
      }
    }
    t.ok(blocks > 0, `${blocks} blocks`)
    t.end()
  })

void t.test('what we write of the same headers is read by others', { skip }, (t) => {
  const writer = new HeaderBlockWriter()
  let blocks = 0
  for (const [at, cases] of storiesOf(join(FOLDER, RAW)).entries()) {
    const naive = new NaiveDecoder()
    const decoder = new HpackDecoder(LIST_LIMIT)
    for (const [number, each] of cases.entries()) {
      const list = listOf(each)
      writer.write(list)
      const block = Buffer.from(writer.bytes.subarray(0, writer.length))
      blocks += 1
      const [one, other] = [naive.decode(block), decoder.decode(block).headers]
      for (const read of [one, other])
        if (JSON.stringify(read) !== JSON.stringify(list))
          t.strictSame(read, list, `story ${at}, block ${number}`)
    }
  }
  t.ok(blocks >= FEWEST_BLOCKS, `${blocks} blocks`)
  t.end()
})
