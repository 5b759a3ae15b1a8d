// SPDX-License-Identifier: Apache-2.0
// What needs nothing but the API of a cluster that has Ambit, whosever it is: in the namespaces shop and legacy, which must not be there
// and are removed again. AMBIT_SAMPLE_IMAGE names the image of the sample where the cluster is not ours.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { ClientReport } from '../../lab/demo/check.ts'
import { policyChecks } from '../../lab/demo/policy-checks.ts'
import { waypointChecks } from '../../lab/demo/waypoint-checks.ts'
import { clusterLab } from './support/cluster-lab.ts'
import { applyShop, installMesh, NAMESPACES, removeShop } from './support/mesh.ts'
import { missingCluster, storyTarget } from './support/target.ts'

await t.test(
  'policy and waypoints by the API alone',
  { skip: missingCluster('api') },
  async (t) => {
    const target = storyTarget()
    if (target === undefined) throw new Error('the cluster went away')
    const directory = mkdtempSync(join(tmpdir(), 'ambit-cluster-'))
    t.teardown(() => rmSync(directory, { recursive: true, force: true }))
    const lab = clusterLab(target, directory)
    if (target.isOurs) await installMesh(lab)
    const there = await lab.kubectl(
      'get',
      'namespace',
      ...NAMESPACES,
      '--ignore-not-found',
      '-o',
      'name',
    )
    if (there !== '') throw new Error(`Cannot tell the stories: the cluster has ${there.trim()}`)
    t.teardown(async () => await removeShop(lab))
    await applyShop(lab, target.isOurs)
    const enabled =
      '--for=jsonpath={.metadata.annotations.ambient\\.istio\\.io/redirection}=enabled'
    await lab.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient')
    await lab.kubectl('wait', 'pod', '--all', '-n', 'shop', enabled, '--timeout=60s')

    const call = async (pod: string, url: string): Promise<ClientReport> =>
      JSON.parse(await lab.exec(pod, 'node', 'lab/samples/client.ts', url)) as ClientReport
    for (const check of [...policyChecks(lab, call), ...waypointChecks(lab)])
      await t.test(check.title, async (t) => {
        t.comment(await check.run())
        t.pass('the check held')
      })
  },
)
