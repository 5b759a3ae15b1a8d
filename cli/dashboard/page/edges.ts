// SPDX-License-Identifier: Apache-2.0
// Edges as the graph draws them: added up between namespaces, from who is shown, and as curves. Pure.

import type { GraphEdge, Rates, Security, Totals } from '../view.ts'
import type { Point } from './layout.ts'

export interface Rectangle extends Point {
  readonly width: number
  readonly height: number
}

/** Weakest last. */
const BY_STRENGTH: readonly Security[] = ['unused', 'mutual_tls', 'node_local', 'plaintext']

/** Of the way along a curve. */
const NEAR = 0.34

/** The edges between groups of nodes: added up, as weak as the weakest of them; those inside a group are left out. */
export function groupEdges(
  edges: readonly GraphEdge[],
  groupOf: (id: string) => string,
): readonly GraphEdge[] {
  const groups = new Map<string, GraphEdge>()
  for (const edge of edges) {
    const from = groupOf(edge.from)
    const to = groupOf(edge.to)
    if (from === to) continue
    const key = JSON.stringify([from, to])
    const known = groups.get(key)
    groups.set(key, known === undefined ? { ...edge, from, to } : joined(known, edge))
  }
  return [...groups.values()]
}

function joined(one: GraphEdge, other: GraphEdge): GraphEdge {
  return {
    ...one,
    services: [],
    security:
      BY_STRENGTH.indexOf(one.security) > BY_STRENGTH.indexOf(other.security)
        ? one.security
        : other.security,
    rates: added<Rates>(one.rates, other.rates),
    totals: added<Totals>(one.totals, other.totals),
  }
}

function added<T extends object>(one: T, other: T): T {
  const sum: Record<string, number> = {}
  for (const [name, value] of Object.entries(one) as [string, number][])
    sum[name] = value + ((other as Record<string, number>)[name] ?? 0)
  // It has the fields of both.
  return sum as T
}

/** Whether anything goes over it now. */
export function isActive({ rates }: GraphEdge): boolean {
  return Object.values(rates).some((rate) => rate > 0)
}

/** Wider the more goes over it, by powers of ten. */
export function widthOf({ rates }: GraphEdge): number {
  const load = (rates.connections + rates.requests) * 200 + rates.requestBytes + rates.responseBytes
  return 1.4 + Math.min(4.6, Math.log10(1 + load / 20))
}

/** The curve from one rectangle's side to another's, and a place on it near its start: in the middle edges cross, and other nodes lie. */
export function curve(
  from: Rectangle,
  to: Rectangle,
): { readonly path: string; readonly nearStart: Point } {
  const start = { x: from.x + from.width, y: from.y + from.height / 2 }
  const end = { x: to.x, y: to.y + to.height / 2 }
  let bendStart: number
  let bendEnd: number
  if (end.x >= start.x) {
    const bend = Math.max(28, (end.x - start.x) / 2)
    bendStart = start.x + bend
    bendEnd = end.x - bend
  } else if (to.x + to.width <= from.x) {
    // Backwards: from the left side to the right one.
    start.x = from.x
    end.x = to.x + to.width
    const bend = Math.max(28, (start.x - end.x) / 2)
    bendStart = start.x - bend
    bendEnd = end.x + bend
  } else {
    // One above the other: around their right sides.
    end.x = to.x + to.width
    const out = Math.max(start.x, end.x) + 44
    bendStart = out
    bendEnd = out
  }
  const path = `M${start.x} ${start.y}C${bendStart} ${start.y} ${bendEnd} ${end.y} ${end.x} ${end.y}`
  const along = (...[a, b, c, d]: readonly [number, number, number, number]): number =>
    (1 - NEAR) ** 3 * a +
    3 * (1 - NEAR) ** 2 * NEAR * b +
    3 * (1 - NEAR) * NEAR ** 2 * c +
    NEAR ** 3 * d
  const nearStart = {
    x: along(start.x, bendStart, bendEnd, end.x),
    y: along(start.y, start.y, end.y, end.y),
  }
  return { path, nearStart }
}
