// SPDX-License-Identifier: Apache-2.0
// The page of one workload.

import type { ConnectionView, GraphEdge, PolicyView, WorkloadView } from '../view.ts'
import { el, redraw } from './dom.ts'
import { aboutNode, nodeName } from './drawing.ts'
import { amount, bytes, SECURITY_WORDS } from './format.ts'
import { auditTable, certificateTable, podTable } from './lists.ts'
import { load, type Page, ServerError } from './page.ts'
import { pill, table, workloadLink } from './table.ts'

/** Puts it into `main`. */
export function workloadPage(main: HTMLElement, namespace: string, name: string): Page {
  const body = el('div', { class: 'tables' })
  const about = el('p', { class: 'about' })
  main.replaceChildren(
    el(
      'div',
      { class: 'title' },
      el('div', {}, el('h1', {}, name, ' ', el('span', { class: 'of' }, namespace)), about),
    ),
    body,
  )
  return {
    title: `${namespace}/${name}`,
    refresh: async () => {
      const query = new URLSearchParams({ namespace, name })
      let view: WorkloadView
      try {
        view = await load<WorkloadView>(`/api/workload?${query.toString()}`)
      } catch (thrown) {
        if (!(thrown instanceof ServerError && thrown.status === 404)) throw thrown
        about.textContent = 'No workload of this name is known: it has gone, or has not come yet.'
        body.replaceChildren()
        return
      }
      const { workload, identities } = view
      about.textContent = [
        ...(workload.isUnknown ? [nodeName(workload)] : []),
        aboutNode(workload),
        ...identities,
        ...workload.services.map((service) => `Service ${service}`),
      ].join(' · ')
      redraw(
        body,
        policyTable(view.policies),
        auditTable('Recent denials', view.denials, 'Nobody was refused lately.'),
        edgeTable(
          'Called by',
          view.edges.filter(({ to }) => to === workload.id),
          ({ from }) => from,
        ),
        edgeTable(
          'Calls',
          view.edges.filter(({ from }) => from === workload.id),
          ({ to }) => to,
        ),
        podTable('Pods', view.pods),
        certificateTable(view.certificates, view.at),
        connectionTable(view.connections, view.moreConnections),
      )
    },
    escape: () => {
      location.hash = '#/graph'
      return true
    },
  }
}

function policyTable(policies: readonly PolicyView[]): HTMLElement {
  return table({
    name: 'Policies that apply',
    heading: ['Object', 'Action', 'Scope', 'Rules'],
    empty: 'None: every call is let in.',
    rows: policies.map(({ object, action, scope, isDryRun, rules, problem }) => [
      object,
      pill(isDryRun ? `${action} (dry run)` : action, ACTION_KINDS[action] ?? 'plain'),
      scope,
      problem === undefined
        ? el(
            'ul',
            { class: 'rules' },
            ...(rules.length === 0 ? ['no rule: it matches nothing'] : rules).map((rule) =>
              el('li', {}, rule),
            ),
          )
        : pill(`closed: ${problem}`, 'bad'),
    ]),
  })
}

const ACTION_KINDS: Readonly<Record<string, 'good' | 'bad' | 'warn'>> = {
  Allow: 'good',
  Deny: 'warn',
  closed: 'bad',
}

function edgeTable(
  name: string,
  edges: readonly GraphEdge[],
  other: (edge: GraphEdge) => string,
): HTMLElement {
  return table({
    name,
    heading: [
      'Workload',
      'Authentication',
      'Conn/s',
      'Requests',
      'Responses',
      'Connections',
      'Denials',
      'Errors',
    ],
    empty: 'Nobody, as far as agents have counted.',
    rows: edges.map((edge) => {
      const { security, rates, totals } = edge
      return [
        workloadLink(other(edge)),
        pill(
          SECURITY_WORDS[security],
          security === 'plaintext' ? 'warn' : security === 'unused' ? 'plain' : 'good',
        ),
        amount(rates.connections),
        `${bytes(rates.requestBytes)}/s`,
        `${bytes(rates.responseBytes)}/s`,
        amount(totals.opened),
        countPill(totals.denials + totals.deniedRequests, 'bad'),
        countPill(totals.errors + totals.failedRequests, 'warn'),
      ]
    }),
  })
}

function connectionTable(connections: readonly ConnectionView[], more: number): HTMLElement {
  const shown = table({
    name: 'Open connections',
    heading: ['Pod', 'Direction', 'Other end', 'Leads to', 'Carried by', 'Let in by'],
    empty: 'None is open.',
    rows: connections.map(
      ({ pod, direction, peer, peerAddress, target, protocol, allowedBy = '' }) => [
        pod,
        direction,
        peer === '' ? peerAddress : `${peer} (${peerAddress})`,
        target,
        protocol,
        allowedBy,
      ],
    ),
  })
  if (more > 0) shown.append(el('p', { class: 'empty' }, `and ${amount(more)} more`))
  return shown
}

function countPill(count: number, kind: 'bad' | 'warn'): ReturnType<typeof pill> | string {
  return count === 0 ? '0' : pill(amount(count), kind)
}
