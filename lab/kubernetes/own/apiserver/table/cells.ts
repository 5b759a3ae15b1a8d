// SPDX-License-Identifier: Apache-2.0
// Small pieces of printed tables: ages, lists, and JSONPath as printer columns use it.

import { at, list, record } from '../../../objects/json.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const YEAR = 365 * DAY

/** A duration as kubectl prints ages: 90s, 5m30s, 3h10m, 2d4h, 5y. */
function humanDuration(ms: number): string {
  const two = (large: number, largeUnit: string, small: number, smallUnit: string): string => {
    const rest = Math.floor((ms % large) / small)
    return `${Math.floor(ms / large)}${largeUnit}${rest === 0 ? '' : `${rest}${smallUnit}`}`
  }
  if (ms < 0) return '0s'
  if (ms < 2 * MINUTE) return `${Math.floor(ms / SECOND)}s`
  if (ms < 10 * MINUTE) return two(MINUTE, 'm', SECOND, 's')
  if (ms < 3 * HOUR) return `${Math.floor(ms / MINUTE)}m`
  if (ms < 8 * HOUR) return two(HOUR, 'h', MINUTE, 'm')
  if (ms < 2 * DAY) return `${Math.floor(ms / HOUR)}h`
  if (ms < 8 * DAY) return two(DAY, 'd', HOUR, 'h')
  if (ms < 2 * YEAR) return `${Math.floor(ms / DAY)}d`
  return `${Math.floor(ms / YEAR)}y`
}

/** How long ago a time was, or `<unknown>`. */
export function age(time: unknown, now: number): string {
  const then = typeof time === 'string' ? Date.parse(time) : Number.NaN
  return Number.isNaN(then) ? '<unknown>' : humanDuration(now - then)
}

/** Joins, or `<none>`. */
export function joined(values: readonly string[]): string {
  return values.length === 0 ? '<none>' : values.join(',')
}

/** Evaluates the JSONPath of a printer column: fields, indices, and filters by one equality. */
export function evaluateJsonPath(object: unknown, path: string): unknown {
  let here: unknown = object
  const steps = path.match(/\[\?\(@\.[^)]*\)\]|\[[^\]]*\]|\.(?:\\.|[^.[\]])+/g) ?? []
  for (const step of steps) {
    const filter = /^\[\?\(@\.([\w.]+)\s*==\s*["']([^"']*)["']\)\]$/.exec(step)
    if (filter !== null) {
      const [, field = '', wanted] = filter
      here = list(here).find((member) => String(at(member, ...field.split('.'))) === wanted)
    } else if (step.startsWith('[')) {
      const inner = step.slice(1, -1).replaceAll(/^["']|["']$/g, '')
      here = /^\d+$/.test(inner)
        ? list(here)[Number(inner)]
        : inner === '*'
          ? list(here)[0]
          : record(here)?.[inner]
    } else here = record(here)?.[step.slice(1).replaceAll('\\.', '.')]
  }
  return here
}
