// SPDX-License-Identifier: Apache-2.0
// The part of Go's templates that the chart is written in, case by case: what Go makes of each is known.

import t from 'tap'
import { TemplateSet } from '../../daemonset/render/evaluate.ts'
import { parseTemplates } from '../../daemonset/render/parser.ts'
import { setValues } from '../../daemonset/render/set-values.ts'
import { mergeValues } from '../../daemonset/render/values.ts'

const render = (text: string, data: object = {}): string =>
  new TemplateSet(parseTemplates(text, 'case')).render('case', data)

const CASES: readonly (readonly [what: string, text: string, data: object, wanted: string])[] = [
  ['a field', 'a {{ .b.c }} d', { b: { c: 1 } }, 'a 1 d'],
  ['nothing where there is no field', '[{{ .b.c }}]', {}, '[]'],
  ['blanks that are trimmed', 'a \n {{- .b -}} \n c', { b: 'x' }, 'axc'],
  ['a comment', 'a{{/* no */}}b', {}, 'ab'],
  ['if, else if, else', '{{ if .a }}1{{ else if .b }}2{{ else }}3{{ end }}', { b: true }, '2'],
  [
    'empty things are not true',
    '{{ if or .a .b .c .d }}1{{ else }}0{{ end }}',
    { a: '', b: 0, c: [], d: {} },
    '0',
  ],
  [
    'with changes the dot, and $ does not change',
    '{{ with .a }}{{ . }}{{ $.b }}{{ end }}',
    { a: 1, b: 2 },
    '12',
  ],
  ['with, where there is nothing', '{{ with .a }}x{{ else }}{{ .b }}{{ end }}', { b: 2 }, '2'],
  [
    'range over a list',
    '{{ range $at, $each := .a }}{{ $at }}{{ $each }},{{ end }}',
    { a: ['x', 'y'] },
    '0x,1y,',
  ],
  [
    'range over a mapping, by its keys in order',
    '{{ range $k, $v := .a }}{{ $k }}={{ $v }};{{ end }}',
    { a: { b: 2, a: 1 } },
    'a=1;b=2;',
  ],
  ['range over nothing', '{{ range .a }}x{{ else }}none{{ end }}', { a: [] }, 'none'],
  [
    'a variable that is assigned within',
    '{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}',
    {},
    '2',
  ],
  ['a pipeline gives its value last', '{{ .a | default "x" | printf "%s-%s" "y" }}', {}, 'y-x'],
  ['brackets', '{{ if and (eq .a "x") (not .b) }}yes{{ end }}', { a: 'x' }, 'yes'],
  [
    'a template in another',
    '{{ define "n" }}<{{ .a }}>{{ end }}{{ include "n" . | quote }}',
    { a: 1 },
    '"<1>"',
  ],
  [
    'YAML, with its margin',
    'x:{{ toYaml .a | nindent 2 }}',
    { a: { b: ['yes', 1], a: '1' } },
    'x:\n  a: "1"\n  b:\n  - "yes"\n  - 1',
  ],
  [
    'the directory of a path in a URL',
    '{{ with .a }}{{ trimPrefix "unix://" . | dir }}{{ end }}',
    { a: 'unix:///run/spire/admin.sock' },
    '/run/spire',
  ],
  ['braces in a text', '{{ "a}" }}', {}, 'a}'],
]

for (const [what, text, data, wanted] of CASES)
  void t.test(what, (t) => {
    t.equal(render(text, data), wanted)
    t.end()
  })

void t.test('what is not understood is refused, with file and line', (t) => {
  const refusals = {
    'a\n{{ nope 1 }}': /case:2: no function "nope"/,
    '{{ if .a }}x': /case:1: a block without an end/,
    'x{{ end }}': /case:1: an end or else without a beginning/,
    '{{ .a | .b }}': /case:1: what follows \| is no function/,
    '{{ (eq 1 2 }}': /case:1: a bracket is not closed/,
    '{{ .a }} {{ ? }}': /case:1: cannot read/,
    '{{ .a }}': /case:1: a list or mapping stands where a text should/,
    '{{ include "none" . }}': /there is no template "none"/,
  }
  for (const [text, error] of Object.entries(refusals))
    t.throws(() => render(text, { a: { b: 1 } }), { message: error }, text)
  t.end()
})

void t.test('--set reads paths and values as Helm does', (t) => {
  const read = (text: string, isText = false): object => setValues({}, text, isText)
  t.strictSame(read('a.b=c,d=1'), { a: { b: 'c' }, d: 1 })
  t.strictSame(read('a=true,b=null,c='), { a: true, b: null, c: '' })
  t.strictSame(read('a={x,y},b={}'), { a: ['x', 'y'], b: [] })
  t.strictSame(read('a[1].b=x'), { a: [null, { b: 'x' }] })
  t.strictSame(read('a\\.b/c=x\\,y'), { 'a.b/c': 'x,y' })
  t.strictSame(read('tag=1.10,zero=007'), { tag: '1.10', zero: '007' }, 'no numbers')
  t.strictSame(read('tag=1,b=true', true), { tag: '1', b: 'true' }, '--set-string')
  t.throws(() => read('a'), { code: 'AMB_CHART_VALUES', message: /"a" is no path=value/ })
  t.throws(() => read('a[99999999]=x'), {
    code: 'AMB_CHART_VALUES',
    message: /\[99999999\] is bey/,
  })
  t.throws(() => read('a..b=1'), { code: 'AMB_CHART_VALUES', message: /"a..b" is no path/ })
  t.end()
})

void t.test('values over values: mappings are merged, lists replaced, null takes away', (t) => {
  const merged = mergeValues({ a: { b: 1, c: 2 }, l: [1], n: 1 }, { a: { c: 3 }, l: [2], n: null })
  t.strictSame(merged, { a: { b: 1, c: 3 }, l: [2] })
  t.end()
})
