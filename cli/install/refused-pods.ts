// SPDX-License-Identifier: Apache-2.0
// Why pods of the mesh have not even been made: a quota, Pod Security, a webhook, a priority class that is not there. No pod says so, but events
// of what was to make them.

import { DAEMON_SETS, type Event, EVENTS, type KubeApi } from '../../mesh/kube/index.ts'
import { kubeError } from '../cluster/kube-reads.ts'

/** Their makers: agents' DaemonSet, and the ReplicaSets of controllers. */
const MAKERS: Readonly<Record<string, RegExp>> = {
  DaemonSet: /^ambit-agent$/,
  ReplicaSet: /^ambit-controller-/,
}

/** One sentence for each maker that was refused a pod, with the last reason. Throws AMB_KUBE_API. */
export async function refusedPods(api: KubeApi, namespace: string): Promise<readonly string[]> {
  const [events, set] = await Promise.all([
    api.list(EVENTS, { namespace }),
    api.get(DAEMON_SETS, { namespace, name: 'ambit-agent' }),
  ])
  if (!events.ok) throw kubeError(events.error)
  const last = new Map<string, string>()
  const inTurn = events.value.items.toSorted((one, other) => (timeOf(one) < timeOf(other) ? -1 : 1))
  for (const { reason, message = '', involvedObject } of inTurn) {
    const { kind = '', name = '', uid } = involvedObject
    if (reason !== 'FailedCreate' || MAKERS[kind]?.test(name) !== true) continue
    // Of an installation before this one: events live on for an hour.
    if (kind === 'DaemonSet' && set.ok && uid !== undefined && uid !== set.value.metadata?.uid)
      continue
    last.set(`${kind} ${name}`, message)
  }
  return [...last].map(([maker, message]) => `${maker} cannot make pods: ${message}`)
}

const timeOf = ({ lastTimestamp, series, eventTime }: Event): string =>
  lastTimestamp ?? series?.lastObservedTime ?? eventTime ?? ''
