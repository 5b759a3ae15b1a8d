// SPDX-License-Identifier: Apache-2.0
// How the stories of a cluster of ours begin: the cluster, a directory for captures and keys, and the application that they tell of.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { DemoLab } from '../../../lab/demo/check.ts'
import { clusterLab } from './cluster-lab.ts'
import { NAMESPACE } from './life-objects.ts'
import { TIMEOUT, untilCaptured } from './mesh.ts'
import { storyTarget } from './target.ts'

/** What a story is told with. */
export interface Story {
  readonly lab: DemoLab
  readonly directory: string
}

/** Opens the cluster; at the story's end its directory goes, and before it what `leave` takes away. */
export function openCluster(t: Test, leave: (lab: DemoLab) => Promise<void>): Story {
  const target = storyTarget()
  if (target === undefined) throw new Error('the cluster went away')
  const directory = mkdtempSync(join(tmpdir(), 'ambit-cluster-'))
  const lab = clusterLab(target, directory)
  t.teardown(async () => {
    await leave(lab)
    rmSync(directory, { recursive: true, force: true })
  })
  return { lab, directory }
}

/** The same for a story of the application in NAMESPACE, which goes at the end. */
export function openStory(t: Test): Story {
  return openCluster(t, async ({ kubectl }) => {
    await kubectl('delete', 'namespace', NAMESPACE, '--ignore-not-found', TIMEOUT)
  })
}

/** Applies the application; resolves when it and these clients are ready, and in the mesh. */
export async function startApplication(
  lab: DemoLab,
  items: readonly object[],
  clients: readonly string[] = ['client'],
): Promise<void> {
  await lab.apply({ apiVersion: 'v1', kind: 'List', items })
  await lab.kubectl('rollout', 'status', '-n', NAMESPACE, 'deployment/web', TIMEOUT)
  for (const pod of clients)
    await lab.kubectl('wait', '-n', NAMESPACE, `pod/${pod}`, '--for=condition=Ready', TIMEOUT)
  await untilCaptured(lab, NAMESPACE)
}
