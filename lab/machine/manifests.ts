// SPDX-License-Identifier: Apache-2.0
// Reads Kubernetes manifests and finds, for whatever is wrong in them, the file, the line and the field. Applying
// them is apply.ts's business.

import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { parseYamlDocuments } from '../../mesh/kube/yaml.ts'

export interface Manifest {
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
  const documents = parseYamlDocuments(text)
  if (!documents.ok) {
    const { line, field, what } = documents.error
    throw bad(`${file}:${line}`, `${field === '' ? 'this is not YAML' : `field ${field}`}: ${what}`)
  }
  return documents.value.flatMap(({ value, lineOf }): readonly Manifest[] => {
    if (value === null) return []
    const where = (fieldPath: string): string => `${file}:${lineOf(fieldPath)}`
    if (typeof value !== 'object' || Array.isArray(value)) {
      throw bad(where(''), 'a manifest must be an object with apiVersion, kind and metadata')
    }
    const fields: { readonly [field: string]: unknown } = { ...value }
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
