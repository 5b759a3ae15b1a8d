// SPDX-License-Identifier: Apache-2.0
// A lab with the mesh for the tests of one file: made once, taken down at the end even when tests fail.

import type { Test } from 'tap'
import { createLab, type Lab, takeDown } from '../../../lab/cluster/index.ts'

/** Also what a test needs to run at all; give it to `missing`. */
export const NEEDS = ['root', 'cgroup2'] as const

/** Makes a lab of two nodes, or as many, with controller and agents that goes when the test `t` ends. */
export async function meshLab(t: Test, files: readonly string[] = [], nodes = 2): Promise<Lab> {
  const name = `e${process.pid}`
  t.teardown(async () => {
    const { leftovers } = await takeDown(name)
    // A teardown cannot assert; what it throws fails the test.
    if (leftovers.length > 0) throw new Error(`left of lab ${name}: ${leftovers.join('; ')}`)
  })
  return await createLab({ name, files, nodes })
}

/** Applies objects in their order, in one go. */
export async function applyAll(lab: Lab, items: readonly object[]): Promise<void> {
  await lab.apply(JSON.stringify({ apiVersion: 'v1', kind: 'List', items }))
}

/** The agent pod of a node, as `NAMESPACE/NAME`. */
export async function agentOf(lab: Lab, node: string): Promise<string> {
  const name = await lab.kubectl(
    'get',
    'pods',
    '--namespace=ambit-system',
    '--selector=app=ambit-agent',
    `--field-selector=spec.nodeName=${node}`,
    '--output=jsonpath={.items[0].metadata.name}',
  )
  return `ambit-system/${name}`
}

/** One access line of an agent. */
export interface AccessLine {
  readonly direction?: 'inbound' | 'outbound'
  readonly error?: string
  readonly reason?: string
  readonly [field: string]: unknown
}

/** The access lines that a node's agent has written so far. */
export async function accessLines(lab: Lab, node: string): Promise<readonly AccessLine[]> {
  return lab
    .log(await agentOf(lab, node))
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as AccessLine)
    .filter((line) => line.direction !== undefined)
}

/** Whether every pod of a namespace is captured (or none is) by what the agents annotated. */
export async function waitForCapture(
  lab: Lab,
  namespace: string,
  isCaptured: boolean,
): Promise<void> {
  await lab.waitFor(`pods of ${namespace} ${isCaptured ? 'enrolled' : 'withdrawn'}`, async () => {
    const words = await lab.kubectl(
      'get',
      'pods',
      `--namespace=${namespace}`,
      '--output=jsonpath={range .items[*]}{.metadata.annotations.ambient\\.istio\\.io/redirection}{"\\n"}{end}',
    )
    const lines = words.split('\n').slice(0, -1)
    return lines.every((word) => (word === 'enabled') === isCaptured) ? true : undefined
  })
}
