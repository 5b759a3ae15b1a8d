// SPDX-License-Identifier: Apache-2.0
// A lab with the mesh for the tests of one file: made once, taken down at the end even when tests fail.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { ConfigDump } from '../../../cli/dump/config-dump.ts'
import { createLab, type Lab, type LabOptions, takeDown } from '../../../lab/cluster/index.ts'
import { type AccessLine, accessLines as accessLinesOf } from '../../../lab/machine/access-lines.ts'
import { PODS } from '../../../mesh/kube/index.ts'
import { isCaptured, objectsIn } from './objects.ts'

export type { AccessLine }

/** Also what a test needs to run at all; give it to `missing`. */
export const NEEDS = ['root', 'cgroup2'] as const
export const MESH_NAMESPACE = 'ambit-system'
/** The agents' label. */
export const AGENTS = 'app=ambit-agent'

/** Makes a lab of two nodes, or as many, with controller and agents that goes when the test `t` ends. */
export async function meshLab(t: Test, files: readonly string[] = [], nodes = 2): Promise<Lab> {
  return await labOf(t, { files, nodes })
}

/** Makes a lab that goes when the test `t` ends. */
export async function labOf(t: Test, options: Omit<LabOptions, 'name'>): Promise<Lab> {
  const name = `e${process.pid}`
  t.teardown(async () => {
    const { leftovers } = await takeDown(name)
    // A teardown cannot assert; what it throws fails the test.
    if (leftovers.length > 0) throw new Error(`left of lab ${name}: ${leftovers.join('; ')}`)
  })
  return await createLab({ ...options, name })
}

/** Applies objects in their order, in one go. */
export async function applyAll(lab: Lab, items: readonly object[]): Promise<void> {
  await lab.apply(JSON.stringify({ apiVersion: 'v1', kind: 'List', items }))
}

/** The agent pod of a node, as `NAMESPACE/NAME`. */
export async function agentOf(lab: Lab, node: string): Promise<string> {
  const agents = await objectsIn(lab, PODS, MESH_NAMESPACE, AGENTS)
  const name = agents.find((agent) => agent.spec?.nodeName === node)?.metadata?.name
  if (name === undefined) throw new Error(`${node} has no agent`)
  return `${MESH_NAMESPACE}/${name}`
}

/** The access lines that a node's agent has written so far. */
export async function accessLines(lab: Lab, node: string): Promise<readonly AccessLine[]> {
  return accessLinesOf(lab.log(await agentOf(lab, node)))
}

/**
 * The access lines of a node's agent that are meant, once there are so many: a line is written after its connection has ended, which
 * is after the caller has its answer.
 */
export async function linesWhere(
  lab: Lab,
  node: string,
  what: string,
  isMeant: (line: AccessLine) => boolean,
  count = 1,
): Promise<readonly AccessLine[]> {
  return await lab.waitFor(what, async () => {
    const lines = (await accessLines(lab, node)).filter(isMeant)
    return lines.length >= count ? lines : undefined
  })
}

/** Whether every pod of a namespace is captured (or none is) by what the agents annotated. */
export async function waitForCapture(
  lab: Lab,
  namespace: string,
  areCaptured: boolean,
): Promise<void> {
  await lab.waitFor(`pods of ${namespace} ${areCaptured ? 'enrolled' : 'withdrawn'}`, async () => {
    const pods = await objectsIn(lab, PODS, namespace)
    return pods.every((pod) => isCaptured(pod) === areCaptured) ? true : undefined
  })
}

/** Records what goes over the wire between the nodes, from now on; ended, it gives the whole of it, as tcpdump writes it. */
export async function captureFabric(t: Test, lab: Lab): Promise<() => Promise<Buffer>> {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-fabric-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const file = join(directory, 'fabric.pcap')
  const capture = await lab.capture('fabric', file)
  return async () => {
    await capture.stop()
    return readFileSync(file)
  }
}

/** What a node's agent says of itself and of the mesh. */
export async function configDump(lab: Lab, node: string): Promise<ConfigDump> {
  const ask = ['curl', '--silent', '--fail', 'http://127.0.0.1:15000/config_dump']
  const { code, stdout } = await lab.nodeExec(node, ask)
  if (code !== 0) throw new Error(`the agent of ${node} does not answer`)
  return JSON.parse(stdout) as ConfigDump
}

/**
 * Waits until a node's agent has heard that all pods of a namespace are in the mesh, and of so many endpoints of its Services. Agents annotate
 * what they capture; what becomes of that, and of a pod that is ready, they hear later, from the controller.
 */
export async function waitForNews(
  lab: Lab,
  node: string,
  namespace: string,
  endpoints: Readonly<Record<string, number>>,
): Promise<void> {
  const isThere = (of: { readonly namespace: string }): boolean => of.namespace === namespace
  await lab.waitFor(`${node} to hear of ${namespace}`, async () => {
    const pods = await objectsIn(lab, PODS, namespace)
    const dump = await configDump(lab, node)
    const known = dump.workloads.filter(isThere)
    const services = dump.services.filter(isThere)
    const isTold =
      known.length === pods.length &&
      known.every(({ protocol, status }) => protocol === 'HBONE' && status === 'Healthy') &&
      Object.entries(endpoints).every(([name, count]) => {
        const service = services.find((each) => each.name === name)
        return Object.keys(service?.endpoints ?? {}).length === count
      })
    return isTold ? true : undefined
  })
}
