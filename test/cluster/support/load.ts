// SPDX-License-Identifier: Apache-2.0
// Programs of the sample that run in a pod until their standard input ends: load, and connections that are held. They go on while the API
// server is away.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { DemoLab } from '../../../lab/demo/check.ts'
import { accessLines } from '../../../lab/machine/access-lines.ts'
import { NODES } from '../../../lab/real/layout.ts'
import { inContainer } from './containers.ts'
import type { LoadReport } from '../../../lab/samples/load.ts'
import { NAMESPACE } from './life-objects.ts'

const URL = `http://web.${NAMESPACE}/`

/** Of each agent. */
const TOLD_LINES = 10

export interface Running<Report> {
  /** Resolves once there have been calls of each kind since now; of load.ts alone. */
  phase(name: string): Promise<void>
  /** Tells it to end; gives its last line. */
  finish(): Promise<Report>
}

/** Starts a program of lab/samples in a pod ("namespace/name"), about the Service `web` or another URL; resolves when it says that it is under way. */
export async function startSample<Report>(
  lab: DemoLab,
  pod: string,
  program: 'load.ts' | 'hold.ts',
  url = URL,
): Promise<Running<Report>> {
  const words = [...(await inContainer(lab, pod)), 'node', `lab/samples/${program}`, url]
  const child = spawn(words[0] ?? '', words.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] })
  const closed = once(child, 'close')
  let text = ''
  let complaint = ''
  child.stderr.setEncoding('utf8').on('data', (more: string) => (complaint += more))
  child.stdout.setEncoding('utf8').on('data', (more: string) => (text += more))
  await Promise.race([
    once(child.stdout, 'data'),
    closed.then(() => Promise.reject(new Error(`Cannot run ${program} in ${pod}: ${complaint}`))),
  ])
  const phase = async (name: string): Promise<void> => {
    child.stdin.write(`${name}\n`)
    while (!text.includes(`done ${name}\n`)) {
      const more = once(child.stdout, 'data')
      const ended = closed.then(() => Promise.reject(new Error(`${program} in ${pod} ended`)))
      await Promise.race([more, ended])
    }
  }
  const finish = async (): Promise<Report> => {
    child.stdin.end()
    await closed
    return JSON.parse(text.trim().split('\n').at(-1) ?? '') as Report
  }
  return { phase, finish }
}

/** Puts load on the Service `web` from a pod of its namespace while `event` goes on, and gives what became of the calls. */
export async function underLoad(
  lab: DemoLab,
  event: () => Promise<void>,
  pod = 'client',
): Promise<LoadReport> {
  // Before and after the event, too: it says so when calls have been answered, and once more when it has counted.
  const load = await startSample<LoadReport>(lab, `${NAMESPACE}/${pod}`, 'load.ts')
  try {
    await event()
  } catch (error) {
    await load.finish()
    throw error
  }
  return await load.finish()
}

/**
 * One call of the Service `web` in a cluster without a mesh. Just after a rollout kube-proxy leads such calls to pods that have ended, where
 * nobody refuses them: until it has heard of that another is tried.
 */
export async function callPlainly(lab: DemoLab): Promise<void> {
  const patiently = ['-m', '2', '--retry', '20', '--retry-delay', '1', '--retry-all-errors']
  const call = ['curl', '-sSf', ...patiently, URL]
  await lab.kubectl('exec', '-n', NAMESPACE, 'client', '--', ...call)
}

/** For people; where calls failed, with what the agents say of connections that ended badly, the last of each. */
export function tellOfFailures(lab: DemoLab, report: LoadReport): string {
  if (report.failed === 0) return tellOf(report)
  const lines = NODES.flatMap((node) =>
    accessLines(lab.agentLog(node))
      .filter(({ error }) => error !== undefined)
      .slice(-TOLD_LINES)
      .map((line) => `${node}: ${JSON.stringify(line)}`),
  )
  return [tellOf(report), ...lines].join('\n')
}

/** For people. */
export function tellOf({ calls, failed, counted, windows }: LoadReport): string {
  return `${failed} of ${calls} calls failed: ${JSON.stringify({ counted, windows })}`
}
