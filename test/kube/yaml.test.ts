// SPDX-License-Identifier: Apache-2.0
// What JSON.stringify has written is read without the parser of YAML, and to the same value.

import fc from 'fast-check'
import t from 'tap'
import { parseYamlDocuments } from '../../mesh/kube/yaml.ts'

const valueOf = (text: string): unknown => {
  const read = parseYamlDocuments(text)
  return read.ok ? read.value[0]?.value : read.error
}

void t.test('an object is the same, whichever parser reads it', (t) => {
  const anObject = fc.dictionary(fc.string({ maxLength: 20 }), fc.jsonValue(), {
    noNullPrototype: true,
  })
  fc.assert(
    fc.property(anObject, (object) => {
      const text = JSON.stringify(object)
      // A line before it is for the parser of YAML.
      const [one, other] = [valueOf(text), valueOf(`\n${text}`)]
      t.strictSame(JSON.stringify(one), text)
      t.strictSame(one, other)
    }),
    { numRuns: 200 },
  )
  t.end()
})

void t.test('a field of it is in its only line', (t) => {
  const read = parseYamlDocuments('{"spec":{"containers":[]}}')
  t.equal(read.ok ? read.value[0]?.lineOf('spec.containers') : undefined, 1)
  t.end()
})

void t.test('what begins alike and is not that is told as before', (t) => {
  t.match(valueOf('{"a":1,"a":2}'), { line: 1, what: 'a key stands twice in one mapping' })
  t.strictSame(valueOf('{a: 1}\n'), { a: 1 })
  t.strictSame(valueOf('{"a": 1}\n---\nb: 2\n'), { a: 1 })
  const deep = `{"a":${'['.repeat(50_000)}${']'.repeat(50_000)}}`
  t.match(valueOf(deep), { what: 'it is nested too deeply' })
  t.end()
})
