// SPDX-License-Identifier: Apache-2.0
// The page of the dashboard: which of its pages is shown, what is new, the keyboard, light and dark.

import type { Standing } from '../view.ts'
import { el } from './dom.ts'
import { clock, plural, span } from './format.ts'
import { graphPage } from './graph-page.ts'
import { auditListPage, nodesPage, workloadsPage } from './lists.ts'
import { load, type Page, ServerError } from './page.ts'
import { watchTheme } from './theme.ts'
import { workloadPage } from './workload-page.ts'

const main = required('#main')
const banner = required('#banner')
const freshness = required('#freshness')

let page: Page | undefined
let isBusy = false
let isStale = false

function required(selector: string): HTMLElement {
  const found = document.querySelector<HTMLElement>(selector)
  if (found === null) throw new Error(`the page has no ${selector}`)
  return found
}

function open(): void {
  page?.leave?.()
  const [, where = 'graph', ...rest] = location.hash.split('/')
  const [namespace = '', name = ''] = rest.map(decoded)
  switch (where) {
    case 'workloads':
      page = workloadsPage(main)
      break
    case 'workload':
      page = workloadPage(main, namespace, name)
      break
    case 'audit':
      page = auditListPage(main)
      break
    case 'nodes':
      page = nodesPage(main)
      break
    default:
      page = graphPage(main)
  }
  document.title = `${page.title} · Ambit`
  main.dataset['page'] = where === '' ? 'graph' : where
  for (const link of document.querySelectorAll('nav a'))
    if (link.getAttribute('href') === `#/${where === 'workload' ? 'workloads' : where}`)
      link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  void refresh()
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part // typed by hand: it is looked for as it is
  }
}

/** One at a time: what has changed meanwhile is asked for afterwards. */
async function refresh(): Promise<void> {
  isStale = true
  if (isBusy) return
  isBusy = true
  try {
    while (isStale) {
      isStale = false
      await page?.refresh()
      showStanding(await load<Standing>('/api/standing'))
    }
  } catch (thrown) {
    if (!(thrown instanceof Error)) throw thrown
    showLost(thrown)
  } finally {
    isBusy = false
  }
}

/** Whom nobody could ask, and since when: what they would say is missing on the page. */
function showStanding({ agents, waypoints, at, problem }: Standing): void {
  freshness.textContent = `live, ${clock(at)}`
  freshness.className = 'freshness live'
  const lines: string[] = []
  if (problem !== undefined) lines.push(`The cluster cannot be asked for its agents: ${problem}`)
  const mute = waypoints.filter((waypoint) => waypoint.silent !== undefined)
  if (mute.length > 0)
    lines.push(
      `${mute.length} of ${plural(waypoints.length, 'pod')} of waypoints cannot be asked; their requests are missing here or old.`,
    )
  const silent = agents.filter((agent) => agent.silent !== undefined)
  if (silent.length > 0)
    lines.push(
      `${silent.length} of ${plural(agents.length, 'agent')} cannot be asked; what they know is missing here or old.`,
    )
  for (const agent of silent.slice(0, 5))
    lines.push(
      `${agent.node}: since ${clock(agent.silent?.since ?? at)} (${span(at - (agent.silent?.since ?? at))}): ${agent.silent?.reason ?? ''}`,
    )
  if (silent.length > 5) lines.push(`and ${silent.length - 5} more: see Nodes`)
  showBanner(lines)
}

function showLost(error: Error): void {
  freshness.textContent = 'not live'
  freshness.className = 'freshness lost'
  showBanner([
    error instanceof ServerError
      ? `The dashboard answers: ${error.message}`
      : 'The dashboard does not answer: `ambit dashboard` has ended, perhaps. What is shown is old.',
  ])
}

let bannerText = ''
function showBanner(lines: readonly string[]): void {
  const text = lines.join('\n')
  // Said anew at every turn, it would be read out anew.
  if (text === bannerText) return
  bannerText = text
  banner.hidden = lines.length === 0
  banner.replaceChildren(...lines.map((line) => el('p', {}, line)))
}

function onKey(event: KeyboardEvent): void {
  const isTyping = event.target instanceof HTMLInputElement && event.target.type !== 'checkbox'
  if (event.key === '/' && !isTyping && !event.ctrlKey && !event.metaKey) {
    const field = page?.search?.()
    if (field === undefined) return
    event.preventDefault()
    field.focus()
  } else if (event.key === 'Escape' && page?.escape?.() === true) {
    event.preventDefault()
  }
}

const events = new EventSource('/api/events')
events.addEventListener('message', () => void refresh())
events.addEventListener('error', () => showLost(new Error('no events')))
globalThis.addEventListener('hashchange', () => {
  open()
  main.focus()
})
document.addEventListener('keydown', onKey)
watchTheme(required('#theme'))
open()
