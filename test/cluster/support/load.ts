// SPDX-License-Identifier: Apache-2.0
// Load from a pod of the cluster, from its first answer until it is told to stop.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { LoadReport } from '../../../lab/samples/load.ts'
import { NAMESPACE } from './life-objects.ts'
import type { StoryTarget } from './target.ts'

const URL = `http://web.${NAMESPACE}/`

/** Puts load on the Service `web` while `event` goes on, and gives what became of the calls. */
export async function underLoad(
  { kubeconfig }: StoryTarget,
  event: () => Promise<void>,
): Promise<LoadReport> {
  const exec = ['exec', '-i', '-n', NAMESPACE, 'client', '--']
  const argv = [`--kubeconfig=${kubeconfig}`, ...exec, 'node', 'lab/samples/load.ts', URL]
  const child = spawn('kubectl', argv, { stdio: ['pipe', 'pipe', 'inherit'] })
  const closed = once(child, 'close')
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (more: string) => (text += more))
  try {
    // Before and after the event, too: it says so when a call has been answered, and once more when it has counted.
    await once(child.stdout, 'data')
    await event()
  } finally {
    child.stdin.end()
    await closed
  }
  return JSON.parse(text.trim().split('\n').at(-1) ?? '') as LoadReport
}
