// SPDX-License-Identifier: Apache-2.0
// Nodes without machines, and a kubelet that only pretends: pods become ready at once and go when they are deleted.

import type { StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import type { ApiUnderTest } from './api-under-test.ts'

/** Makes a node that is ready. */
export async function addNode(
  api: ApiUnderTest,
  name: string,
  labels: { [key: string]: string } = {},
): Promise<void> {
  const made = await api.create('nodes', undefined, {
    metadata: { name, labels: { 'kubernetes.io/hostname': name, ...labels } },
  })
  if (!made.ok) throw new Error(made.error.message)
  // A server takes a status by its own way only.
  const status = {
    conditions: [{ type: 'Ready', status: 'True' }],
    nodeInfo: { kubeletVersion: 'v1.32.0' },
    addresses: [{ type: 'InternalIP', address: '172.30.0.11' }],
  }
  const ready = await api.patch(
    'nodes',
    undefined,
    name,
    { type: 'merge', body: { status } },
    'status',
  )
  if (!ready.ok) throw new Error(ready.error.message)
}

/** Pretends to run pods: bound ones get an address and are ready; deleted ones go. */
export function pretendKubelet(api: ApiUnderTest): () => void {
  let next = 2
  const started = new Set<string>()
  const start = async (pod: StoredObject): Promise<void> => {
    if (started.has(pod.metadata.uid)) return
    started.add(pod.metadata.uid)
    const ip = `10.244.0.${next}`
    const ip6 = `fd98:244::${next.toString(16)}`
    next += 1
    const status = {
      phase: 'Running',
      podIP: ip,
      podIPs: [{ ip }, { ip: ip6 }],
      conditions: [{ type: 'Ready', status: 'True' }],
      containerStatuses: [
        {
          name: 'main',
          image: 'host',
          imageID: '',
          ready: true,
          restartCount: 0,
          state: { running: {} },
        },
      ],
    }
    const { namespace, name } = pod.metadata
    await api.patch('pods', namespace, name, { type: 'merge', body: { status } }, 'status')
  }
  return api.watch('pods', ({ type, object }) => {
    if (type === 'DELETED' || object.spec?.nodeName === undefined) return
    const { namespace, name, uid, deletionTimestamp, annotations } = object.metadata
    if (deletionTimestamp !== undefined)
      void api.delete('pods', namespace, name, { gracePeriodSeconds: 0, preconditions: { uid } })
    else if (object.status?.phase === 'Pending' && annotations?.hold === undefined)
      void start(object)
  })
}
