// SPDX-License-Identifier: Apache-2.0
// Reads YAML that may hold secrets: kubeconfigs, manifests, bodies of requests. The parser's own messages and warnings
// quote the text, or name an alias or a tag by it; here a defect is a place and a sentence of ours, and whatever the text
// is, the outcome is a value. Whoever needs no YAML does not load this: the parser takes its time.

import {
  type Document,
  type ErrorCode,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  LineCounter,
  type Node,
  parseAllDocuments,
  type ParsedNode,
  visit,
} from 'yaml'
import { err, ok, type Result } from '../result.ts'

/** What is wrong with a text, without a word of it. */
export interface YamlDefect {
  readonly line: number
  /** Path of the field, as far as it is one of an API (`spec.containers[0].image`); empty for the whole. */
  readonly field: string
  readonly what: string
}

export interface YamlDocument {
  readonly value: unknown
  /** The line of a field by its path or, when it is not there, of the nearest field above it. */
  lineOf(fieldPath: string): number
}

/** What the parser's codes mean; a code that is not here is told without detail. */
const MEANINGS: Partial<Record<ErrorCode, string>> = {
  ALIAS_PROPS: 'an alias has an anchor or a tag',
  BAD_ALIAS: 'an alias or anchor has no proper name',
  BAD_DQ_ESCAPE: 'an escape in a quoted text is unknown',
  BAD_INDENT: 'the indentation is wrong',
  BAD_PROP_ORDER: 'an anchor or tag stands in the wrong place',
  BAD_SCALAR_START: 'a text begins with a character that needs quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a mapping stands within a line of another',
  BLOCK_IN_FLOW: 'a block stands within brackets',
  DUPLICATE_KEY: 'a key stands twice in one mapping',
  KEY_OVER_1024_CHARS: 'a key is longer than 1024 characters',
  MISSING_CHAR: 'a bracket, quote, comma, colon or blank is missing',
  MULTILINE_IMPLICIT_KEY: 'a key is longer than a line, or has no value',
  MULTIPLE_ANCHORS: 'a value has two anchors',
  MULTIPLE_TAGS: 'a value has two tags',
  RESOURCE_EXHAUSTION: 'it is nested too deeply',
  TAB_AS_INDENT: 'it is indented by a tab',
  TAG_RESOLVE_FAILED: 'a tag does not fit its value',
  UNEXPECTED_TOKEN: 'something stands where it cannot',
}
/** What aliases may multiply a document by: a few dozen bytes can stand for gigabytes (the parser's own default). */
const MOST_ALIASES = 100
/** Deep enough for every object of Kubernetes; the parser's recursion ends by an overflow of the stack otherwise. */
const TOO_DEEP = 'it is nested too deeply'
/** Of what JSON is read without that parser: several times what the deepest objects of Kubernetes have. */
const MOST_LEVELS = 200

/** Fields below these are named by whoever wrote them, and may be secrets themselves. */
const FREE_KEYS = new Set(['data', 'stringData', 'binaryData', 'annotations', 'labels'])

/** Reads all documents of a text; none for an empty one. Never throws, never warns. */
export function parseYamlDocuments(text: string): Result<readonly YamlDocument[], YamlDefect> {
  const json = text.startsWith('{') ? writtenJson(text) : undefined
  if (json !== undefined) return ok([{ value: json, lineOf: () => 1 }])
  const lines = new LineCounter()
  try {
    // Without this the parser warns on stderr of tags and keys that it does not know, and quotes them.
    const options = { lineCounter: lines, logLevel: 'error', prettyErrors: false } as const
    const documents = parseAllDocuments(text, options)
    // An empty text gives a thing that is no list.
    if (!Array.isArray(documents)) return ok([])
    const read: YamlDocument[] = []
    for (const document of documents) {
      const one = readDocument(document, text, lines)
      if (!one.ok) return one
      read.push(one.value)
    }
    return ok(read)
  } catch (thrown) {
    // Recursion without end is the only thing that the parser throws of itself.
    const what = thrown instanceof RangeError ? TOO_DEEP : 'the parser cannot read it'
    return err({ line: 1, field: '', what })
  }
}

/**
 * The object that JSON.stringify has written, undefined of any other text: it has no key twice and stands in one line, so it needs no
 * parser of YAML, which takes a hundred times as long.
 */
function writtenJson(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text)
    return isShallow(value, MOST_LEVELS) && JSON.stringify(value) === text ? value : undefined
  } catch {
    return undefined // Other YAML that begins so: the parser says what it is.
  }
}

function isShallow(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return true
  return levels > 0 && Object.values(value).every((each) => isShallow(each, levels - 1))
}

function readDocument(
  document: Document.Parsed,
  text: string,
  lines: LineCounter,
): Result<YamlDocument, YamlDefect> {
  const [problem] = document.errors
  if (problem !== undefined) {
    const { line } = lines.linePos(problem.pos[0])
    return err({ line, field: '', what: MEANINGS[problem.code] ?? 'it is not YAML' })
  }
  // Before anything follows them: one that stands within what it names makes a value without end.
  const aliases = text.includes('*') ? aliasesOf(document, lines) : NO_ALIASES
  if (aliases.defect !== undefined) return err(aliases.defect)
  try {
    const value: unknown = document.toJS({ maxAliasCount: MOST_ALIASES })
    return ok({ value, lineOf: (fieldPath) => lineOf(document, lines, fieldPath) })
  } catch (thrown) {
    // What is left of the parser's reasons: recursion, and aliases of aliases of aliases.
    const what = thrown instanceof RangeError ? TOO_DEEP : 'its aliases stand for too much'
    return err({ ...aliases.last, what })
  }
}

interface Aliases {
  /** The first that cannot be followed. */
  readonly defect: YamlDefect | undefined
  /** Where the last one stands. */
  readonly last: Pick<YamlDefect, 'line' | 'field'>
}

const NO_ALIASES: Aliases = { defect: undefined, last: { line: 1, field: '' } }

/** One pass, whatever there is: the parser's own way to resolve an alias goes through the whole document for each. */
function aliasesOf(document: Document.Parsed, lines: LineCounter): Aliases {
  const anchors = new Map<string, unknown>()
  let what: string | undefined
  let place = (): Aliases['last'] => NO_ALIASES.last
  visit(document, {
    Node: (key, node, path) => {
      if (!isAlias(node)) {
        if (node.anchor !== undefined) anchors.set(node.anchor, node)
        return undefined
      }
      place = () => ({ line: lineOfNode(node, lines), field: fieldOf(key, path) })
      const target = anchors.get(node.source)
      if (target === undefined) what = 'an alias names no anchor above it'
      else if (path.some((above) => above === target)) what = 'an alias names what it is part of'
      return what === undefined ? undefined : visit.BREAK
    },
  })
  const last = place()
  return { last, defect: what === undefined ? undefined : { ...last, what } }
}

/** The path of the node that the visitor is at, as far as its keys are those of an API. */
function fieldOf(key: string | number | null, path: readonly unknown[]): string {
  const words: string[] = []
  const steps = [...path.slice(1), undefined]
  for (const [at, parent] of path.entries()) {
    if (isPair(parent)) {
      const name = isScalar(parent.key) ? String(parent.key.value) : ''
      // Only what looks like a field of an API: a key may be a secret that stands in the wrong place.
      if (!/^[a-z][A-Za-z]{0,40}$/.test(name)) return words.join('')
      words.push(words.length === 0 ? name : `.${name}`)
      if (FREE_KEYS.has(name)) return words.join('')
    } else if (isNode(parent) && !isMap(parent) && 'items' in parent) {
      const next = steps[at]
      const items: unknown = parent.items
      const index = next === undefined ? key : Array.isArray(items) ? items.indexOf(next) : -1
      words.push(`[${String(index)}]`)
    }
  }
  return words.join('')
}

function lineOfNode(node: Node, lines: LineCounter): number {
  return node.range === undefined || node.range === null ? 1 : lines.linePos(node.range[0]).line
}

function lineOf(
  document: Document<ParsedNode, true>,
  lines: LineCounter,
  fieldPath: string,
): number {
  const path = fieldPath
    .split(/[.[\]]+/)
    .filter((part) => part !== '')
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part))
  for (let length = path.length; length >= 0; length -= 1) {
    const node: unknown =
      length === 0 ? document.contents : document.getIn(path.slice(0, length), true)
    if (isNode(node) && !isAlias(node)) return lineOfNode(node, lines)
  }
  return 1
}
