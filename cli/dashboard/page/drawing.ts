// SPDX-License-Identifier: Apache-2.0
// Draws the graph: boxes of namespaces, workloads, edges. From afar, where names of workloads could not be read, a namespace is one thing and
// what goes on between two of them is one edge.

import type { GraphEdge, GraphNode } from '../view.ts'
import { svg } from './dom.ts'
import { curve, groupEdges, isActive, type Rectangle, widthOf } from './edges.ts'
import { amount, plural, SECURITY_WORDS, traffic } from './format.ts'
import { type Box, NODE, type Placed } from './layout.ts'

export interface Scene {
  readonly placed: Placed
  readonly nodes: readonly GraphNode[]
  readonly edges: readonly GraphEdge[]
  readonly isFar: boolean
  /** Screen pixels for a unit of the drawing. */
  readonly scale: number
  readonly selected: string | undefined
  /** Those that stay in the light; all when undefined. */
  readonly lit: ReadonlySet<string> | undefined
  /** Which has the tab stop. */
  readonly current: string | undefined
  readonly onSelect: (id: string) => void
}

/** On the screen, pixels, of a namespace's name from afar. */
const FAR_TEXT = 15
/** Of a character, in parts of the text's height. */
const CHARACTER = 0.56
const NAME_LENGTH = 21
/** Parts of its box. */
const CARD = { width: 0.74, height: 0.5 }

/** Everything in the drawing, what lies below first. */
export function drawing(scene: Scene): readonly SVGElement[] {
  const drawn = scene.isFar ? drawNamespaces(scene) : drawWorkloads(scene)
  return drawn.filter((element) => element !== undefined)
}

function drawWorkloads(scene: Scene): readonly (SVGElement | undefined)[] {
  const { placed, nodes, edges, selected, lit } = scene
  const at = new Map<string, Rectangle>()
  for (const [id, point] of placed.nodes) at.set(id, { ...point, ...NODE })
  const isLit = ({ from, to }: GraphEdge): boolean =>
    lit === undefined ||
    (selected === undefined ? lit.has(from) && lit.has(to) : from === selected || to === selected)
  return [
    ...placed.boxes.map((box) =>
      svg(
        'g',
        { class: 'box' },
        svg('rect', {
          attributes: { x: box.x, y: box.y, width: box.width, height: box.height, rx: 14 },
        }),
        svg(
          'text',
          { attributes: { x: box.x + 18, y: box.y + 23 } },
          short(box.namespace, Math.floor((box.width - 30) / 8)),
        ),
      ),
    ),
    ...edges.map((edge) => drawEdge(edge, at, isLit(edge), 1)),
    ...nodes.map((node) => drawNode(node, scene)),
    ...edges.filter(isLit).map((edge) => drawBadge(edge, at, 1)),
  ]
}

function drawNode(
  node: GraphNode,
  { placed, selected, lit, current, onSelect, edges }: Scene,
): SVGElement {
  const { x, y } = placed.nodes.get(node.id) ?? { x: 0, y: 0 }
  const classes = ['node']
  if (node.id === selected) classes.push('selected')
  if (lit !== undefined && !lit.has(node.id)) classes.push('dim')
  if (node.troubles > 0) classes.push('trouble')
  if (node.pods === 0) classes.push('gone')
  return svg(
    'g',
    {
      class: classes.join(' '),
      key: `node ${node.id}`,
      attributes: {
        transform: `translate(${x} ${y})`,
        role: 'button',
        tabindex: node.id === current ? 0 : -1,
        'aria-label': nodeLabel(node, edges),
        'aria-pressed': node.id === selected ? 'true' : 'false',
        'data-id': node.id,
      },
      on: {
        click: () => onSelect(node.id),
        keydown: (event) => {
          const { key } = event as KeyboardEvent
          if (key !== 'Enter' && key !== ' ') return
          event.preventDefault()
          onSelect(node.id)
        },
      },
    },
    svg('rect', { attributes: { width: NODE.width, height: NODE.height, rx: 10 } }),
    svg('circle', {
      class: `capture ${captureClass(node)}`,
      attributes: { cx: 16, cy: NODE.height / 2, r: 5 },
    }),
    svg(
      'text',
      { class: 'name', attributes: { x: 30, y: 20 } },
      short(nodeName(node), NAME_LENGTH),
    ),
    svg('text', { class: 'about', attributes: { x: 30, y: 36 } }, aboutNode(node)),
    svg('title', {}, `${node.id}\n${aboutNode(node)}`),
  )
}

/** What a workload is called on the page. */
export function nodeName(node: GraphNode): string {
  return node.isUnknown ? 'unknown peers' : node.name
}

function captureClass({ captured, pods }: GraphNode): string {
  if (captured === undefined || pods === 0) return 'none'
  if (captured === 0) return 'outside'
  return captured === pods ? 'full' : 'part'
}

/** How many pods, and whether they are in the mesh. */
export function aboutNode({ pods, captured, troubles, isUnknown, isWaypoint }: GraphNode): string {
  if (isUnknown) return 'not known to the mesh'
  if (pods === 0) return isWaypoint ? 'waypoint' : 'no pod any more'
  if (isWaypoint)
    return `waypoint, ${plural(pods, 'pod')}${troubles === 0 ? '' : `, ${troubles} in trouble`}`
  const state =
    captured === undefined
      ? ''
      : captured === pods
        ? ', in the mesh'
        : captured === 0
          ? ', outside'
          : `, ${captured} in the mesh`
  return `${plural(pods, 'pod')}${troubles === 0 ? state : `, ${troubles} in trouble`}`
}

function nodeLabel(node: GraphNode, edges: readonly GraphEdge[]): string {
  const callers = edges.filter(({ to }) => to === node.id)
  const denials = callers.reduce(
    (sum, { totals }) => sum + totals.denials + totals.deniedRequests,
    0,
  )
  const callees = edges.filter(({ from }) => from === node.id).length
  return [
    `${nodeName(node)}, namespace ${node.namespace}`,
    aboutNode(node),
    `called by ${callers.length}, calls ${callees}`,
    ...(denials > 0 ? [plural(denials, 'denial')] : []),
  ].join(', ')
}

function drawNamespaces(scene: Scene): readonly (SVGElement | undefined)[] {
  const { placed, nodes, edges, scale, selected, lit, current, onSelect } = scene
  const members = Map.groupBy(nodes, ({ namespace }) => namespace)
  const home = new Map(nodes.map(({ id, namespace }) => [id, namespace]))
  const cards = placed.boxes.map(card)
  const at = new Map<string, Rectangle>(cards.map((box) => [box.namespace, box]))
  const litBoxes = lit && new Set([...lit].map((id) => home.get(id) ?? id))
  const isLit = ({ from, to }: GraphEdge): boolean =>
    litBoxes === undefined ||
    (selected === undefined
      ? litBoxes.has(from) && litBoxes.has(to)
      : from === selected || to === selected)
  const grouped = groupEdges(edges, (id) => home.get(id) ?? id)
  return [
    ...grouped.map((edge) => drawEdge(edge, at, isLit(edge), 1 / scale)),
    ...cards.map((box) =>
      drawNamespace(box, members.get(box.namespace) ?? [], {
        scale,
        isSelected: box.namespace === selected,
        isDim: litBoxes !== undefined && !litBoxes.has(box.namespace),
        isCurrent: box.namespace === current,
        onSelect,
      }),
    ),
    ...grouped.filter(isLit).map((edge) => drawBadge(edge, at, 1 / scale)),
  ]
}

/** A namespace from afar: smaller than its box, so that what goes on between them has room to be seen. */
function card(box: Box): Box {
  const width = box.width * CARD.width
  const height = box.height * CARD.height
  const x = box.x + (box.width - width) / 2
  return { ...box, x, y: box.y + (box.height - height) / 2, width, height }
}

function drawNamespace(
  { namespace, x, y, width, height }: Box,
  members: readonly GraphNode[],
  look: {
    readonly scale: number
    readonly isSelected: boolean
    readonly isDim: boolean
    readonly isCurrent: boolean
    readonly onSelect: (id: string) => void
  },
): SVGElement {
  const size = FAR_TEXT / look.scale
  const small = size * 0.8
  const troubles = members.reduce((sum, member) => sum + member.troubles, 0)
  const about = `${plural(members.length, 'workload')}${troubles > 0 ? `, ${troubles} in trouble` : ''}`
  const most = Math.max(3, Math.floor((width - size) / (size * CHARACTER)))
  const classes = ['far']
  if (look.isSelected) classes.push('selected')
  if (look.isDim) classes.push('dim')
  if (troubles > 0) classes.push('trouble')
  const text = (of: string, at: number, textSize: number, kind: string): SVGElement =>
    svg(
      'text',
      {
        class: kind,
        attributes: { x: x + width / 2, y: at, 'font-size': textSize, 'text-anchor': 'middle' },
      },
      of,
    )
  return svg(
    'g',
    {
      class: classes.join(' '),
      key: `node ${namespace}`,
      attributes: {
        role: 'button',
        tabindex: look.isCurrent ? 0 : -1,
        'aria-label': `namespace ${namespace}, ${about}`,
        'data-id': namespace,
      },
      on: {
        click: () => look.onSelect(namespace),
        keydown: (event) => {
          const { key } = event as KeyboardEvent
          if (key !== 'Enter' && key !== ' ') return
          event.preventDefault()
          look.onSelect(namespace)
        },
      },
    },
    svg('rect', { attributes: { x, y, width, height, rx: 14 } }),
    text(short(namespace, most), y + height / 2, size, 'name'),
    // Where there is room for it.
    width * look.scale > about.length * 6.8 &&
      height * look.scale > 46 &&
      text(about, y + height / 2 + size * 1.25, small, 'sub'),
    svg('title', {}, `${namespace}: ${about}`),
  )
}

function drawEdge(
  edge: GraphEdge,
  at: ReadonlyMap<string, Rectangle>,
  isLit: boolean,
  unit: number,
): SVGElement {
  const from = at.get(edge.from)
  const to = at.get(edge.to)
  if (from === undefined || to === undefined) return svg('g')
  const classes = ['edge', edge.security]
  if (!isLit) classes.push('dim')
  if (!isActive(edge)) classes.push('still')
  return svg(
    'g',
    { class: classes.join(' ') },
    svg('path', {
      attributes: {
        d: curve(from, to).path,
        'stroke-width': widthOf(edge) * unit,
        'marker-end': `url(#arrow-${edge.security})`,
      },
    }),
    svg('title', {}, edgeText(edge)),
  )
}

/** That something was refused or failed over an edge: filled while it happens, and never told by colour alone. */
function drawBadge(
  edge: GraphEdge,
  at: ReadonlyMap<string, Rectangle>,
  unit: number,
): SVGElement | undefined {
  const from = at.get(edge.from)
  const to = at.get(edge.to)
  const { totals, rates } = edge
  if (from === undefined || to === undefined || denied(totals) + failed(totals) === 0)
    return undefined
  const { nearStart } = curve(from, to)
  const isDenied = denied(totals) > 0
  const isNow = isDenied ? denied(rates) > 0 : failed(rates) > 0
  return svg(
    'g',
    {
      class: `badge ${isDenied ? 'denied' : 'failed'}${isNow ? ' now' : ''}`,
      attributes: { transform: `translate(${nearStart.x} ${nearStart.y}) scale(${unit})` },
    },
    svg('circle', { attributes: { r: 8.5 } }),
    svg('text', { attributes: { 'text-anchor': 'middle', y: 4 } }, isDenied ? '✕' : '!'),
    svg('title', {}, edgeText(edge)),
  )
}

/** An edge in words. */
function edgeText(edge: GraphEdge): string {
  const { from, to, security, totals, rates } = edge
  return [
    `${from} → ${to}`,
    `${SECURITY_WORDS[security]}: ${traffic(edge)}`,
    `${plural(totals.opened, 'connection')} until now`,
    ...(totals.denials > 0
      ? [`${plural(totals.denials, 'denial')} (${amount(rates.denials)}/s now)`]
      : []),
    ...(totals.deniedRequests > 0
      ? [
          `${plural(totals.deniedRequests, 'denied request')} (${amount(rates.deniedRequests)}/s now)`,
        ]
      : []),
    ...(totals.failedRequests > 0
      ? [
          `${plural(totals.failedRequests, 'failed request')} (${amount(rates.failedRequests)}/s now)`,
        ]
      : []),
    ...(totals.errors > 0
      ? [`${plural(totals.errors, 'error')} (${amount(rates.errors)}/s now)`]
      : []),
  ].join('\n')
}

function short(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text
}

/** By policies, of connections and of requests. */
function denied({ denials, deniedRequests }: Counted): number {
  return denials + deniedRequests
}

function failed({ errors, failedRequests }: Counted): number {
  return errors + failedRequests
}

type Counted = Pick<GraphEdge['totals'], 'denials' | 'errors' | 'deniedRequests' | 'failedRequests'>
