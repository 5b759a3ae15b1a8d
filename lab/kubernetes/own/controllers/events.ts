// SPDX-License-Identifier: Apache-2.0
// Events about objects, as `kubectl describe` shows them; the same one again only counts up.

import { createHash } from 'node:crypto'
import { integer } from '../../objects/json.ts'
import type { StoredObject } from '../../objects/stored-object.ts'
import type { ClusterApi } from '../../objects/cluster-api.ts'
import { find, timeNow } from './controller.ts'

/** Enough of a digest to tell the events of one object apart. */
const DIGEST_LENGTH = 16

/** Tells of something that happened to an object. Losing an event harms nothing. */
export async function recordEvent(
  api: ClusterApi,
  about: StoredObject,
  event: {
    readonly component: string
    readonly type: 'Normal' | 'Warning'
    readonly reason: string
    readonly message: string
  },
): Promise<void> {
  const namespace = about.metadata.namespace ?? 'default'
  const digest = createHash('sha256')
    .update(`${about.metadata.uid}/${event.reason}/${event.message}`)
    .digest('hex')
    .slice(0, DIGEST_LENGTH)
  const name = `${about.metadata.name}.${digest}`
  const now = timeNow()
  const existing = find(api, 'events', namespace, name)
  if (existing !== undefined) {
    const count = (integer(existing.count) ?? 1) + 1
    await api.patch('events', namespace, name, {
      type: 'merge',
      body: { count, lastTimestamp: now },
    })
    return
  }
  await api.create('events', namespace, {
    metadata: { name },
    involvedObject: {
      apiVersion: about.apiVersion,
      kind: about.kind,
      name: about.metadata.name,
      namespace: about.metadata.namespace,
      uid: about.metadata.uid,
    },
    type: event.type,
    reason: event.reason,
    message: event.message,
    source: { component: event.component },
    count: 1,
    firstTimestamp: now,
    lastTimestamp: now,
  })
}
