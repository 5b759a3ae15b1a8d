// SPDX-License-Identifier: Apache-2.0
// A replica that hears nothing of the cluster says so, once, and for how long.

import t from 'tap'
import { pino } from 'pino'
import { Graph } from '../../mesh/collections/index.ts'
import { createKubeApi, PODS } from '../../mesh/kube/index.ts'
import { ObjectSources } from '../../controller/sources/object-sources.ts'
import { Staleness } from '../../controller/sources/staleness.ts'
import { watchCluster } from '../../controller/sources/watch-cluster.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { until } from '../support/until.ts'

void t.test('what is not heard of for a minute is told in one line', (t) => {
  let now = 0
  const lines: string[] = []
  const log = pino({}, { write: (line: string) => void lines.push(line) })
  const staleness = new Staleness(log, () => now)
  t.same(staleness.seconds(), {})
  staleness.failed('Pod')
  now = 59_000
  staleness.failed('Pod')
  staleness.failed('Node')
  t.same(lines, [], 'an API server may be restarted')
  now = 60_000
  staleness.failed('Pod')
  now = 120_000
  staleness.failed('Node')
  t.same(staleness.seconds(), { Pod: 120, Node: 61 })
  t.match(lines, [/"level":50.*"Pod":60.*may be out of date/])
  staleness.answered('Pod')
  staleness.answered('Service')
  t.same(staleness.seconds(), { Node: 61 })
  staleness.answered('Node')
  t.match(lines.slice(1), [/heard of again/])
  staleness.failed('Node')
  t.same(staleness.seconds(), { Node: 0 }, 'it is counted anew')
  t.end()
})

void t.test('a kind is stale from its first failure until it is watched again', async (t) => {
  const api = new FaultyApi()
  await api.start()
  const cluster = watchCluster({
    api: createKubeApi(api.access()),
    origin: { cluster: 'Kubernetes', clusterDomain: 'cluster.local' },
    sources: new ObjectSources(new Graph({ onFault: ({ error }) => t.error(error) }), {
      onProblems: () => undefined,
    }),
    logger: pino({ level: 'silent' }),
  })
  t.teardown(async () => {
    await cluster.close()
    await api.stop()
  })
  await cluster.synced
  t.same(cluster.stale(), {})
  api.fail('GET', /\/pods\?.*watch=true/, Infinity, 500)
  api.endWatches(PODS)
  await until(() => 'Pod' in cluster.stale(), 'the failure')
  t.same(Object.keys(cluster.stale()), ['Pod'])
  api.heal()
  await until(() => Object.keys(cluster.stale()).length === 0, 'the watch')
})
