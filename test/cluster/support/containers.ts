// SPDX-License-Identifier: Apache-2.0
// Containers of a cluster of ours by their nodes' runtime, as nothing else reaches them while the API server is away.

import { randomUUID } from 'node:crypto'
import type { DemoLab } from '../../../lab/demo/check.ts'
import { inNode } from '../../../lab/real/node-command.ts'
import { TIMEOUT } from './mesh.ts'

const RUNTIME = ['ctr', '--namespace', 'k8s.io']

interface Container {
  readonly node: string
  readonly id: string
  readonly restarts: number
}

/** Of a pod ("namespace/name") with one container, which runs. */
async function containerOf({ kubectl }: DemoLab, pod: string): Promise<Container> {
  const [namespace = '', name = ''] = pod.split('/')
  const status = '{.status.containerStatuses[0]'
  const fields = `{.spec.nodeName} ${status}.containerID} ${status}.restartCount}`
  const said = await kubectl('get', 'pod', '-n', namespace, name, '-o', `jsonpath=${fields}`)
  const [node = '', url = '', restarts = ''] = said.split(' ')
  return { node, id: url.replace('containerd://', ''), restarts: Number(restarts) }
}

/** Words that run what follows them in the pod's container, from outside the cluster. */
export async function inContainer(lab: DemoLab, pod: string): Promise<readonly string[]> {
  const { node, id } = await containerOf(lab, pod)
  return [...inNode(node), ...RUNTIME, 'tasks', 'exec', '--exec-id', randomUUID(), id]
}

/** Ends the pod's program by SIGKILL; resolves when it runs and is ready again. */
export async function killContainer(lab: DemoLab, pod: string): Promise<void> {
  const { node, id, restarts } = await containerOf(lab, pod)
  await lab.nodeExec(node, ...RUNTIME, 'tasks', 'kill', '--signal', 'SIGKILL', id)
  const [namespace = '', name = ''] = pod.split('/')
  const again = `--for=jsonpath={.status.containerStatuses[0].restartCount}=${restarts + 1}`
  for (const condition of [again, '--for=condition=Ready'])
    await lab.kubectl('wait', `pod/${name}`, '-n', namespace, condition, TIMEOUT)
}

/** The pods of an app in a namespace, as "namespace/name", those that end left out. */
export async function podsOf(
  { kubectl }: DemoLab,
  namespace: string,
  app: string,
): Promise<readonly string[]> {
  const said = await kubectl('get', 'pods', '-n', namespace, '-l', `app=${app}`, '-o', 'json')
  const { items } = JSON.parse(said) as {
    readonly items: readonly {
      readonly metadata: { readonly name: string; readonly deletionTimestamp?: string }
    }[]
  }
  return items
    .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
    .map(({ metadata }) => `${namespace}/${metadata.name}`)
}
