// SPDX-License-Identifier: Apache-2.0
// Reads Kubernetes manifests and finds, for whatever is wrong in them, the file, the line and the field. Applying
// them is apply.ts's business.

import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type Document, isNode, LineCounter, parseAllDocuments } from 'yaml'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'

export type Manifest = {
  readonly apiVersion: string
  readonly kind: string
  readonly namespace: string | undefined
  readonly name: string
  readonly object: { readonly [field: string]: unknown }
  /** "FILE:LINE" of a field by its path (as in `spec.containers[0].image`), or of the nearest one above it. */
  readonly where: (fieldPath: string) => string
}

/** Reads a file, or every .yaml, .yml and .json file of a directory by name. */
export function readManifests(path: string): readonly Manifest[] {
  let files: readonly string[]
  try {
    files = statSync(path).isDirectory()
      ? readdirSync(path)
          .filter((name) => /\.(ya?ml|json)$/.test(name))
          .toSorted()
          .map((name) => join(path, name))
      : [path]
  } catch (error) {
    throw new AmbitError('AMB_BAD_MANIFEST', `Cannot read ${path}: ${errorMessage(error)}`)
  }
  return files.flatMap((file) => parseManifests(readFileSync(file, 'utf8'), file))
}

/** Parses the text of a manifest file; `file` is what messages call it. Throws AMB_BAD_MANIFEST. */
export function parseManifests(text: string, file: string): readonly Manifest[] {
  const lineCounter = new LineCounter()
  const documents = parseAllDocuments(text, { lineCounter })
  // An empty text gives a thing that is no list.
  if (!Array.isArray(documents)) return []
  return documents.flatMap((document): readonly Manifest[] => {
    const problem = document.errors[0]
    if (problem !== undefined) {
      const line = problem.linePos?.[0].line ?? 1
      const [what = problem.message] = problem.message.split(/ at line \d+/)
      throw bad(`${file}:${line}`, `this is not YAML: ${what}`)
    }
    const object: unknown = document.toJS()
    if (object === null) return []
    const where = (fieldPath: string): string =>
      `${file}:${lineOf(document, lineCounter, fieldPath)}`
    if (typeof object !== 'object' || Array.isArray(object)) {
      throw bad(where(''), 'a manifest must be an object with apiVersion, kind and metadata')
    }
    const fields: { readonly [field: string]: unknown } = { ...object }
    if (fields['kind'] === 'List' && Array.isArray(fields['items'])) {
      return fields['items'].map((item: unknown, at) =>
        toManifest(item, (path) => where(join2(`items[${at}]`, path))),
      )
    }
    return [toManifest(fields, where)]
  })
}

const join2 = (prefix: string, path: string): string => (path === '' ? prefix : `${prefix}.${path}`)

function toManifest(item: unknown, where: (fieldPath: string) => string): Manifest {
  const object: { readonly [field: string]: unknown } =
    typeof item === 'object' && item !== null ? { ...item } : {}
  const text = (path: string, value: unknown): string => {
    if (typeof value === 'string' && value !== '') return value
    const what = value === undefined ? 'is missing' : 'must be a text'
    throw bad(where(path), `field ${path} ${what}`)
  }
  const apiVersion = text('apiVersion', object['apiVersion'])
  const kind = text('kind', object['kind'])
  const metadata: unknown = object['metadata']
  if (typeof metadata !== 'object' || metadata === null) {
    throw bad(where('metadata'), 'field metadata must be an object')
  }
  const { name, namespace }: { readonly name?: unknown; readonly namespace?: unknown } = metadata
  return {
    apiVersion,
    kind,
    name: text('metadata.name', name),
    namespace: namespace === undefined ? undefined : text('metadata.namespace', namespace),
    object,
    where,
  }
}

/** An error that leads to the place: "FILE:LINE: what is wrong". */
export function bad(where: string, what: string): AmbitError {
  return new AmbitError('AMB_BAD_MANIFEST', `Cannot apply ${where}: ${what}`)
}

/** The line of a field or, when it is not there, of the nearest field above it. */
function lineOf(document: Document, lines: LineCounter, fieldPath: string): number {
  const path = fieldPath
    .split(/[.[\]]+/)
    .filter((part) => part !== '')
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part))
  for (let length = path.length; length >= 0; length -= 1) {
    const node: unknown =
      length === 0 ? document.contents : document.getIn(path.slice(0, length), true)
    if (isNode(node) && node.range !== undefined && node.range !== null) {
      return lines.linePos(node.range[0]).line
    }
  }
  return 1
}
