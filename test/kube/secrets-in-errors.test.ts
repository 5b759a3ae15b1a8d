// SPDX-License-Identifier: Apache-2.0
// A kubeconfig, a manifest or an answer of the API server that cannot be read is told by file, line and reason: never by
// a word of its own, which may be a token, neither in the error nor in a warning on stderr.

import t, { type Test } from 'tap'
import fc from 'fast-check'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { inspect } from 'node:util'
import { parseManifests } from '../../lab/machine/manifests.ts'
import { copyKubeconfig } from '../../lab/kubernetes/real/kubeconfig.ts'
import { AmbitError } from '../../mesh/errors.ts'
import { parseJson } from '../../mesh/json.ts'
import { createKubeApi, loadKubeConfig } from '../../mesh/kube/index.ts'
import { parseYamlDocuments } from '../../mesh/kube/yaml.ts'

/** Not a piece of anything else, and neither YAML nor JSON makes anything of it. */
const SECRET = 'Zq7hushZq7'

const kubeconfigText = (token: string): string => `apiVersion: v1
kind: Config
current-context: lab
contexts:
  - name: lab
    context: {cluster: lab, user: admin}
clusters:
  - name: lab
    cluster:
      server: https://127.0.0.1:6443
users:
  - name: admin
    user:
      token: ${token}
`

const BOMB = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
for (let level = 1; level < 10; level += 1) {
  BOMB.push(`a${level}: &a${level} [${`*a${level - 1}, `.repeat(10)}]`)
}

/** Shapes in which a parser is tempted to quote: one a line, put in the place of the token. */
const SHAPES: readonly string[] = [
  `!!${SECRET} ${SECRET}`,
  `!${SECRET}! ${SECRET}`,
  `!<tag:${SECRET}> x`,
  `*${SECRET}`,
  `&${SECRET}`,
  `&a &${SECRET} x`,
  `"\\q${SECRET}`,
  `"${SECRET}`,
  `'${SECRET}`,
  `{${SECRET}: ${SECRET}: x`,
  `[${SECRET}`,
  `| ${SECRET}`,
  `@${SECRET}`,
  `%${SECRET}`,
  `\`${SECRET}`,
  `x: ${SECRET}`,
  `{? [${SECRET}] : x}`,
  `x\n      token: ${SECRET}`,
  `{<<: ${SECRET}}`,
  `!!binary ${SECRET}`,
  `!!float ${SECRET}`,
  `!!set ${SECRET}`,
  `${SECRET}\n   name: ${SECRET}`,
  `${SECRET}\n---\na: ${SECRET}`,
  `${SECRET}\n%YAML ${SECRET}\n---`,
  `*${SECRET}\n      more: &x [*x]`,
  `\t${SECRET}`,
  `${SECRET}\u0000`,
  `${'['.repeat(20_000)}${SECRET}`,
]

/** What a message may say of a text besides words of ours. */
function assertSilent(t: Test, shown: unknown, of: string): void {
  // Deep enough for causes and fields of an error.
  const text = inspect(shown, { depth: 8 })
  if (text.includes(SECRET)) t.fail(`the secret is told of ${JSON.stringify(of).slice(0, 400)}`)
}

/** Everything the process warns of meanwhile. */
async function warningsOf(act: () => Promise<void>): Promise<readonly string[]> {
  const seen: string[] = []
  const warn = process.emitWarning
  const write = process.stderr.write.bind(process.stderr)
  process.emitWarning = (warning: string | Error): void => void seen.push(String(warning))
  process.stderr.write = (text: string | Uint8Array): boolean => seen.push(String(text)) > 0
  try {
    await act()
  } finally {
    process.emitWarning = warn
    process.stderr.write = write
  }
  return seen
}

async function inDirectory(act: (file: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-secrets-'))
  try {
    await act(path.join(directory, 'config'))
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** Reads a text as a kubeconfig in both of our ways; gives what came of it when that is no access. */
async function failuresOf(file: string, text: string): Promise<readonly unknown[]> {
  await writeFile(file, text)
  const failures: unknown[] = []
  const access = await loadKubeConfig({ kubeconfig: file })
  if (!access.ok) failures.push(access.error)
  else await access.value.credentials().catch((error: unknown) => failures.push(error))
  await copyKubeconfig({ kubeconfig: file }).catch((error: unknown) => {
    if (!(error instanceof AmbitError)) throw error
    failures.push(error)
  })
  return failures
}

await t.test('a kubeconfig is not quoted, however it is broken', async (t) => {
  await inDirectory(async (file) => {
    const warnings = await warningsOf(async () => {
      for (const shape of SHAPES) {
        for (const failure of await failuresOf(file, kubeconfigText(shape))) {
          assertSilent(t, failure, shape)
        }
      }
    })
    t.strictSame(warnings, [])
    // That the shapes are broken, and said to be: most of them must fail to be worth anything.
    const failed = SHAPES.filter((shape) => !parseYamlDocuments(kubeconfigText(shape)).ok)
    t.ok(failed.length > SHAPES.length / 2)
  })
})

await t.test('whatever is lost from a kubeconfig, no message holds the token', async (t) => {
  const whole = kubeconfigText(SECRET)
  const cut = fc.record({
    at: fc.nat(whole.length),
    length: fc.integer({ min: 0, max: 80 }),
    instead: fc.constantFrom(
      '',
      ' ',
      '\n',
      ': ',
      '*',
      '&a ',
      '!!x ',
      '"',
      "'",
      '{',
      '[',
      '\t',
      '- ',
    ),
  })
  await inDirectory(async (file) => {
    const warnings = await warningsOf(async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(cut, { minLength: 1, maxLength: 3 }), async (cuts) => {
          let text = whole
          for (const { at, length, instead } of cuts) {
            text = text.slice(0, at) + instead + text.slice(at + length)
          }
          for (const failure of await failuresOf(file, text)) {
            if (inspect(failure, { depth: 8 }).includes(SECRET)) throw new Error(`told: ${text}`)
          }
        }),
        { numRuns: 600 },
      )
    })
    t.strictSame(warnings, [])
  })
})

await t.test('a token written where its file belongs is not told', async (t) => {
  await inDirectory(async (file) => {
    const text = kubeconfigText(SECRET).replace('token:', 'tokenFile:')
    const failures = await failuresOf(file, text)
    t.match(failures, [{ message: /cannot read the file of field tokenFile \(ENOENT\)/ }])
    for (const failure of failures) assertSilent(t, failure, text)
    const inUrl = kubeconfigText('x').replace('https://', `https://admin:${SECRET}@`)
    for (const failure of await failuresOf(file, inUrl)) {
      t.match(failure, { code: 'AMB_KUBECONFIG', message: /credentials in its URL/ })
      assertSilent(t, failure, inUrl)
    }
    const plugin = kubeconfigText(SECRET).replace(
      `token: ${SECRET}`,
      `exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: ambit-nowhere, args: [${SECRET}], env: [{name: KEY, value: ${SECRET}}]}`,
    )
    const noJson = plugin.replace('ambit-nowhere', 'echo')
    for (const text of [plugin, noJson, `${plugin}x: &a !!${SECRET} [${SECRET}]\n`]) {
      const failures = await failuresOf(file, text)
      t.match(failures, [
        { code: 'AMB_KUBE_AUTH', message: /(spawn ambit-nowhere ENOENT|the plugin gave no JSON)/ },
      ])
      for (const failure of failures) assertSilent(t, failure, text)
    }
  })
})

await t.test('a manifest that cannot be read is told by file, line and field', (t) => {
  const head = 'apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n'
  const cases: readonly (readonly [string, string])[] = [
    [
      `${head}spec:\n  list:\n    - x\n    - image: *gone\n`,
      ':7: field spec.list[1].image: an alias names no anchor above it',
    ],
    [`${head}data:\n  key: *gone\n`, ':5: field data: an alias names no anchor above it'],
    [`${head}spec: &x {self: *x}\n`, ':4: field spec.self: an alias names what it is part of'],
    [`${head}${BOMB.join('\n')}\n`, ': its aliases stand for too much'],
    [`${head}a: !!binary [${SECRET}]\n`, ''],
    [
      `${head}a: &a\nb: ${SECRET} : x\n`,
      ':5: this is not YAML: a mapping stands within a line of another',
    ],
    [`${head}a: 1\na: 2\n`, ':5: this is not YAML: a key stands twice in one mapping'],
    [`${head}a: "\\q${SECRET}"\n`, ':4: this is not YAML: an escape in a quoted text is unknown'],
    ['['.repeat(50_000), ': it is nested too deeply'],
    [`${head}a: ${'{a: '.repeat(20_000)}`, ''],
  ]
  for (const [text, message] of cases) {
    try {
      parseManifests(text, 'f.yaml')
      t.equal(message, '', text.slice(0, 80))
    } catch (error) {
      t.ok(error instanceof AmbitError && error.code === 'AMB_BAD_MANIFEST', String(error))
      t.match(error, { message: `f.yaml:` })
      if (message !== '') t.match(error, { message }, text.slice(0, 80))
      assertSilent(t, error, text)
    }
  }
  t.end()
})

await t.test('whatever a manifest is, the outcome is a list or a coded error', async (t) => {
  const word = fc.constantFrom(
    'apiVersion: v1\n',
    'kind: Secret\n',
    'metadata: {name: a}\n',
    'stringData:\n',
    `  key: ${SECRET}\n`,
    `  - ${SECRET}\n`,
    '&a ',
    '*a',
    `*${SECRET}`,
    `!!${SECRET} `,
    '!!binary ',
    '? ',
    ': ',
    '- ',
    '{',
    '}',
    '[',
    ']',
    '"',
    "'",
    '|\n',
    '>\n',
    '---\n',
    '...\n',
    '%YAML 1.1\n',
    '<<: *a\n',
    '\t',
    ' ',
    '\n',
    '#',
    '\u0000',
    '\\',
    ',',
    '@',
  )
  const warnings = await warningsOf(async () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 25 }), (words) => {
        const text = words.join('')
        try {
          parseManifests(text, 'f.yaml')
        } catch (error) {
          if (!(error instanceof AmbitError) || error.code !== 'AMB_BAD_MANIFEST') throw error
          if (inspect(error, { depth: 8 }).includes(SECRET)) throw new Error(`told: ${text}`)
        }
      }),
      { numRuns: 3000 },
    )
    return Promise.resolve()
  })
  t.strictSame(warnings, [])
})

await t.test('JSON is not quoted either', async (t) => {
  for (const text of [`{"token": ${SECRET}}`, `{"a":"${SECRET}`, `{"a":"${SECRET}" "b"}`, SECRET]) {
    const parsed = parseJson(text)
    t.equal(parsed.ok, false)
    t.match(parsed, { error: /^it is not JSON/ })
    assertSilent(t, parsed, text)
  }
  t.strictSame(parseJson('{"a":1}'), { ok: true, value: { a: 1 } })
  const { createServer } = await import('node:http')
  const server = createServer((request, response) => {
    response.writeHead(request.url?.includes('broken') === true ? 500 : 200)
    response.end(`{"kind":"Secret","data":{"key":"${SECRET}"`)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  await inDirectory(async (file) => {
    const text = kubeconfigText('x').replace('https://127.0.0.1:6443', `http://127.0.0.1:${port}`)
    await writeFile(file, text)
    const access = await loadKubeConfig({ kubeconfig: file })
    if (!access.ok) throw access.error
    for (const each of ['whole', 'broken']) {
      const call = { method: 'GET', path: `/${each}`, call: 'read' } as const
      const answer = await createKubeApi(access.value).raw(call)
      t.equal(answer.ok, false)
      assertSilent(t, answer, each)
    }
  })
})

await t.test('aliases without number cost no more than in proportion to the text', async (t) => {
  const before = process.cpuUsage()
  const many = parseYamlDocuments(`a: &a 1\nb:\n${'- *a\n'.repeat(16_000)}`)
  const { user } = process.cpuUsage(before)
  t.match(many, { error: { line: 16_002, what: 'its aliases stand for too much' } })
  // It took 20 s of the processor's own time, and takes a fraction of one.
  t.ok(user < 5e6, `${Math.round(user / 1000)} ms`)
})
