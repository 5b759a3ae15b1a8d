// SPDX-License-Identifier: Apache-2.0
// Values on the command line, as Helm's --set has them: `a.b=c,list={x,y},items[0].name=z`. Pure.

import { isRecord } from './functions.ts'
import { refused, type Values } from './values.ts'

/** Helm's own bound: what is skipped takes room. */
const LAST_INDEX = 65_536

/** Reads one --set over values; with `isText` (--set-string) nothing is taken for a number, true, false or null. */
export function setValues(values: Values, text: string, isText = false): Values {
  return splitOutside(text, ',').reduce((all, assignment) => {
    const at = assignment.indexOf('=')
    if (at <= 0) throw refused(`Cannot read --set ${text}: "${assignment}" is no path=value`)
    const path = pathOf(assignment.slice(0, at), text)
    return setAt(all, path, valueOf(assignment.slice(at + 1), isText)) as Values
  }, values)
}

/** At a separator that is neither escaped nor in braces. */
function splitOutside(text: string, separator: string): readonly string[] {
  const parts: string[] = ['']
  let depth = 0
  for (const [char] of text.matchAll(/\\.|[\s\S]/g)) {
    if (char === '{') depth += 1
    if (char === '}') depth -= 1
    if (char === separator && depth <= 0) parts.push('')
    else parts.push(`${parts.pop() ?? ''}${char}`)
  }
  return parts
}

function pathOf(text: string, whole: string): readonly (string | number)[] {
  const path = splitOutside(text, '.').flatMap((part): (string | number)[] => {
    const [, name = '', indexes = ''] = /^((?:\\.|[^[\\])*)((?:\[\d+\])*)$/.exec(part) ?? []
    const numbers = [...indexes.matchAll(/\d+/g)].map(([digits]) => Number(digits))
    return [unescaped(name), ...numbers]
  })
  const far = path.find((part) => typeof part === 'number' && part > LAST_INDEX)
  if (far !== undefined)
    throw refused(`Cannot read --set ${whole}: [${far}] is beyond the last place, [${LAST_INDEX}]`)
  if (path.includes(''))
    throw refused(`Cannot read --set ${whole}: "${text}" is no path of a value`)
  return path
}

function valueOf(text: string, isText: boolean): unknown {
  const list = /^\{([\s\S]*)\}$/.exec(text)?.[1]
  if (list !== undefined)
    return list === '' ? [] : splitOutside(list, ',').map((each) => scalarOf(each, isText))
  return scalarOf(text, isText)
}

/** Decimals stay texts, as Helm has it: image.tag=1.10 is no number. */
function scalarOf(text: string, isText: boolean): unknown {
  if (isText) return unescaped(text)
  if (text === 'true' || text === 'false') return text === 'true'
  if (text === 'null') return null
  return /^-?(0|[1-9]\d{0,15})$/.test(text) ? Number(text) : unescaped(text)
}

const unescaped = (text: string): string => text.replace(/\\(.)/g, '$1')

function setAt(from: unknown, path: readonly (string | number)[], value: unknown): unknown {
  const [first, ...rest] = path
  if (first === undefined) return value
  if (typeof first === 'number') {
    const list = Array.isArray(from) ? [...(from as unknown[])] : []
    // A hole would be no value of JSON: what is skipped is null, as in Helm.
    while (list.length < first) list.push(null)
    list[first] = setAt(list[first], rest, value)
    return list
  }
  const known = isRecord(from) ? from : {}
  return { ...known, [first]: setAt(known[first], rest, value) }
}
