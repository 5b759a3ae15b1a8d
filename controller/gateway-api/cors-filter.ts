// SPDX-License-Identifier: Apache-2.0
// Reads the CORS filter of an HTTPRoute.

import type { HttpFilter } from '../../mesh/model/http-routes.ts'
import { type Fields, type FlawReader, isAbsent, shown } from '../istio-api/flaw.ts'
import { type Form, readEntries, readInteger, readMap, readText } from './route-fields.ts'

type CorsFilter = Extract<HttpFilter, { readonly kind: 'cors' }>

const CORS_FIELDS = [
  'allowOrigins',
  'allowMethods',
  'allowHeaders',
  'exposeHeaders',
  'allowCredentials',
  'maxAge',
]
const MOST_ENTRIES = 64
/** Seconds for which a browser keeps what a preflight was answered, where nothing is said. */
const MAX_AGE_SECONDS = 5
const ORIGIN: Form = {
  pattern: /^(?:\*|https?:\/\/(?:(?:\*\.)?(?:[a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+|\*)(?::[0-9]{1,5})?)$/,
  longest: 253,
  words: 'an origin or *',
}
/** Of methods and headers alike. */
const TOKEN: Form = {
  pattern: /^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/,
  longest: 256,
  words: 'a name or *',
}

/** Reads it; what it does not say it does not allow. */
export function readCors(reader: FlawReader, field: string, body: Fields): CorsFilter {
  readMap(reader, field, body, CORS_FIELDS)
  const list = (name: string, form: Form): readonly string[] => {
    const place = `${field}.${name}`
    const found = readEntries(reader, place, body[name], MOST_ENTRIES).flatMap(
      (each, at) => readText(reader, `${place}[${at}]`, each, form) ?? [],
    )
    if (found.length > 1 && found.includes('*') && name !== 'exposeHeaders')
      reader.note(place, 'has * beside others')
    return found
  }
  const { allowCredentials, maxAge } = body
  if (!isAbsent(allowCredentials) && typeof allowCredentials !== 'boolean')
    reader.note(`${field}.allowCredentials`, `${shown(allowCredentials)} is not true or false`)
  return {
    kind: 'cors',
    allowOrigins: list('allowOrigins', ORIGIN),
    allowMethods: list('allowMethods', TOKEN),
    allowHeaders: list('allowHeaders', TOKEN),
    exposeHeaders: list('exposeHeaders', TOKEN),
    allowCredentials: allowCredentials === true,
    maxAgeSeconds:
      readInteger(reader, `${field}.maxAge`, maxAge ?? MAX_AGE_SECONDS, 0, 2 ** 31 - 1) ??
      MAX_AGE_SECONDS,
  }
}
