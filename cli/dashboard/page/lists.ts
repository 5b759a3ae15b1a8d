// SPDX-License-Identifier: Apache-2.0
// The pages that are tables: all workloads, what is on record, nodes with their agents, pods and certificates.

import type {
  AgentView,
  AuditPage,
  AuditView,
  CertificateView,
  GraphView,
  NodesView,
  PodView,
  WaypointView,
} from '../view.ts'
import { el, redraw } from './dom.ts'
import { aboutNode } from './drawing.ts'
import { amount, bytes, moment, plural, span } from './format.ts'
import { load, type Page } from './page.ts'
import { type Cell, pill, table, workloadLink } from './table.ts'

const DAY = 24 * 3_600_000
/** More rows than this nobody reads, and they take the browser's time at every turn. */
const MOST_ROWS = 500

/** A page of one API answer as tables, which a search narrows. */
function listPage<T>(
  main: HTMLElement,
  title: string,
  path: string,
  content: (view: T, passes: (...texts: readonly string[]) => boolean) => readonly Node[],
): Page {
  let view: T | undefined
  const search = el('input', {
    attributes: {
      type: 'search',
      placeholder: 'Search  /',
      'aria-label': `Search ${title.toLowerCase()}`,
      'aria-keyshortcuts': '/',
    },
    on: { input: () => draw() },
  }) as HTMLInputElement
  const body = el('div', { class: 'tables' })
  main.replaceChildren(el('div', { class: 'title' }, el('h1', {}, title), search), body)
  const draw = (): void => {
    if (view === undefined) return
    const wanted = search.value.trim().toLowerCase()
    redraw(
      body,
      ...content(
        view,
        (...texts) => wanted === '' || texts.some((text) => text.toLowerCase().includes(wanted)),
      ),
    )
  }
  return {
    title,
    refresh: async () => {
      view = await load<T>(path)
      draw()
    },
    search: () => search,
    escape: () => {
      if (search.value === '') return false
      search.value = ''
      draw()
      return true
    },
  }
}

/** All workloads, with what comes in and goes out. */
export function workloadsPage(main: HTMLElement): Page {
  return listPage<GraphView>(main, 'Workloads', '/api/graph', ({ nodes, edges }, passes) => [
    limitedTable(
      'Workloads',
      [
        'Namespace',
        'Workload',
        'Pods',
        'Called, conn/s',
        'Requests/s',
        'In',
        'Out',
        'Denials',
        'Errors',
      ],
      nodes
        .filter(({ id, services }) => passes(id, ...services))
        .map((node) => {
          const into = edges.filter(({ to }) => to === node.id)
          const sum = (of: (edge: (typeof into)[number]) => number): number =>
            into.reduce((all, edge) => all + of(edge), 0)
          const denials = sum(({ totals }) => totals.denials + totals.deniedRequests)
          const errors = sum(({ totals }) => totals.errors + totals.failedRequests)
          return [
            node.namespace,
            workloadLink(node.id, node.name),
            node.troubles > 0 ? pill(aboutNode(node), 'bad') : aboutNode(node),
            amount(sum(({ rates }) => rates.connections)),
            amount(sum(({ rates }) => rates.requests)),
            `${bytes(sum(({ rates }) => rates.requestBytes))}/s`,
            `${bytes(sum(({ rates }) => rates.responseBytes))}/s`,
            denials === 0 ? '0' : pill(amount(denials), 'bad'),
            errors === 0 ? '0' : pill(amount(errors), 'warn'),
          ]
        }),
      'No workload passes.',
    ),
  ])
}

/** What was refused, closed, put on record. */
export function auditListPage(main: HTMLElement): Page {
  return listPage<AuditPage>(main, 'Audit', '/api/audit', ({ events }, passes) => [
    auditTable(
      'What is on record',
      events.filter(({ who, what, why, kind, object = '' }) =>
        passes(who, what, why, kind, object),
      ),
      'Nothing was refused in the last hour, as far as agents remember.',
    ),
  ])
}

/** Events of the audit. */
export function auditTable(name: string, events: readonly AuditView[], empty: string): HTMLElement {
  return limitedTable(
    name,
    ['Time', 'What happened', 'Who', 'To', 'Decided by', 'Why'],
    events.map(({ time, kind, who, what, object, rule, why, leftOut }) => [
      moment(Date.parse(time)),
      pill(
        kind.replace('connection.', ''),
        kind === 'connection.denied' || kind === 'request.denied' || kind.endsWith('refused')
          ? 'bad'
          : kind === 'connection.closed'
            ? 'warn'
            : 'plain',
      ),
      who,
      what,
      object === undefined ? '' : `${object}${rule === undefined ? '' : ` rules[${rule}]`}`,
      leftOut === undefined ? why : `${why} (and ${leftOut} more were left out)`,
    ]),
    empty,
  )
}

/** Agents, pods and their capture, certificates. */
export function nodesPage(main: HTMLElement): Page {
  return listPage<NodesView>(main, 'Nodes', '/api/nodes', (view, passes) => [
    agentTable(
      view.agents.filter(({ node, pod }) => passes(node, pod)),
      view.pods,
      view.at,
    ),
    ...(view.waypoints.length === 0
      ? []
      : [
          waypointTable(
            view.waypoints.filter(({ waypoint, pod, node }) => passes(waypoint, pod, node)),
          ),
        ]),
    certificateTable(
      view.certificates.filter(({ node, identity }) => passes(node, identity)),
      view.at,
    ),
    podTable(
      'Pods',
      view.pods.filter(({ node, namespace, name, capture }) =>
        passes(node, namespace, name, capture),
      ),
    ),
  ])
}

function agentTable(
  agents: readonly AgentView[],
  pods: readonly PodView[],
  now: number,
): HTMLElement {
  return limitedTable(
    'Agents',
    ['Node', 'Agent', 'Version', 'State', 'Restarts', 'Captured', 'Last answer'],
    agents.map(({ node, pod, version, state, isWell, restarts, silent, answeredAt }) => [
      node,
      pod,
      version,
      silent === undefined
        ? pill(state, isWell ? 'good' : 'warn')
        : pill(`${state} since ${moment(silent.since)}: ${silent.reason}`, 'bad'),
      String(restarts),
      String(pods.filter((each) => each.node === node && each.capture === 'captured').length),
      answeredAt === undefined ? 'never' : `${span(now - answeredAt)} ago`,
    ]),
    'There is no agent.',
  )
}

function waypointTable(waypoints: readonly WaypointView[]): HTMLElement {
  return limitedTable(
    'Waypoints',
    [
      'Waypoint',
      'Pod',
      'Node',
      'Version',
      'State',
      'Calls',
      'Requests/s',
      'Requests',
      'Failed',
      'Denied',
    ],
    waypoints.map((each) => [
      workloadLink(each.waypoint, each.waypoint),
      each.pod,
      each.node,
      each.version,
      each.silent === undefined
        ? pill(each.state, each.isWell ? 'good' : 'warn')
        : pill(`${each.state} since ${moment(each.silent.since)}: ${each.silent.reason}`, 'bad'),
      amount(each.calls),
      amount(each.requestRate),
      amount(each.requests),
      each.failed === 0 ? '0' : pill(amount(each.failed), 'warn'),
      each.denied === 0 ? '0' : pill(amount(each.denied), 'bad'),
    ]),
    'No waypoint passes.',
  )
}

/** Certificates as they come: the soonest end first. */
export function certificateTable(
  certificates: readonly CertificateView[],
  now: number,
): HTMLElement {
  return limitedTable(
    'Certificates',
    ['Ends', 'Identity', 'Node', 'State', 'Serial number'],
    certificates.map(({ identity, node, state, notAfter, notBefore, serialNumber = '' }) => [
      notAfter === undefined ? pill('none', 'bad') : endOf(notAfter, notBefore, now),
      identity,
      node,
      state === 'Available'
        ? pill(state, 'good')
        : pill(state, state === 'Initializing' ? 'warn' : 'bad'),
      el('code', {}, hexadecimal(serialNumber)),
    ]),
    'No agent holds one.',
  )
}

/** As `ambit certs` and `openssl` show them. */
function hexadecimal(serialNumber: string): string {
  return /^\d+$/.test(serialNumber) ? BigInt(serialNumber).toString(16) : serialNumber
}

/** Renewed at half of their life: with less than a quarter left, somebody has failed to. */
function endOf(notAfter: number, notBefore: number | undefined, now: number): Cell {
  const left = notAfter - now
  if (left <= 0) return pill(`ended ${span(left)} ago`, 'bad')
  const life = notAfter - (notBefore ?? notAfter - DAY)
  return left < life / 4 ? pill(`in ${span(left)}, not renewed`, 'warn') : `in ${span(left)}`
}

/** Pods with their capture. */
export function podTable(name: string, pods: readonly PodView[]): HTMLElement {
  return limitedTable(
    name,
    ['Pod', 'Node', 'Capture', 'Reached by', 'Addresses'],
    pods.map((pod) => [
      el(
        'span',
        {},
        `${pod.namespace}/${pod.name} `,
        pod.isHealthy ? undefined : pill('not ready', 'warn'),
      ),
      pod.node,
      el(
        'span',
        {},
        pill(CAPTURE_WORDS[pod.capture] ?? pod.capture, captureKind(pod.capture)),
        pod.captureReason === undefined ? '' : ` ${pod.captureReason}`,
      ),
      pod.protocol,
      pod.addresses.join(', '),
    ]),
    'There is no pod.',
  )
}

const CAPTURE_WORDS: Readonly<Record<string, string>> = {
  cutOff: 'cut off',
  captured: 'in the mesh',
}

function captureKind(capture: string): 'good' | 'bad' | 'warn' | 'plain' {
  switch (capture) {
    case 'captured':
      return 'good'
    case 'failed':
    case 'cutOff':
      return 'bad'
    case 'waiting':
      return 'warn'
    default:
      return 'plain'
  }
}

function limitedTable(
  name: string,
  heading: readonly string[],
  rows: readonly (readonly Cell[])[],
  empty: string,
): HTMLElement {
  const shown = table({ name, heading, rows: rows.slice(0, MOST_ROWS), empty })
  if (rows.length > MOST_ROWS)
    shown.append(
      el(
        'p',
        { class: 'empty' },
        `and ${plural(rows.length - MOST_ROWS, 'row')} more: search for what you want to see`,
      ),
    )
  return shown
}
