// SPDX-License-Identifier: Apache-2.0
// `ambit audit`: what was refused, closed and granted in the mesh, from all agents, controllers and waypoints.

import type { Command } from 'commander'
import { Option } from 'commander'
import { parseDurationSeconds } from '../../mesh/program/flags.ts'
import { auditLines } from '../cluster/audit-lines.ts'
import { findAgents } from '../cluster/agents.ts'
import { controllerPods } from '../cluster/controllers.ts'
import { type ClusterTarget, openTarget, type TargetFlags } from '../cluster/target.ts'
import { waypointPods } from '../cluster/waypoint-pods.ts'
import { clusterCommand } from '../flags.ts'
import { print, printError } from '../output.ts'
import { type AuditLine, auditText, inOrder, readAuditLine } from '../tables/audit.ts'

type Flags = TargetFlags & {
  readonly output: 'text' | 'json'
  readonly namespace?: string
  readonly node?: string
  readonly follow?: true
  readonly since?: number
}

export function auditCommand(): Command {
  return clusterCommand('audit', 'who was refused what and why: by which object and rule')
    .option('-n, --namespace <namespace>', 'only what concerns pods of this namespace')
    .option('--node <node>', 'only the agent of this node, no controller and no waypoint')
    .option('-f, --follow', 'go on with what comes, until Ctrl-C')
    .option('--since <duration>', 'only the last 90s, 30m, 24h', parseDurationSeconds)
    .addOption(
      new Option('-o, --output <format>', 'text, or the lines as they are')
        .choices(['text', 'json'])
        .default('text'),
    )
    .action(printAudit)
}

async function printAudit(flags: Flags): Promise<void> {
  const { namespace, node, since, output } = flags
  const target = await openTarget(flags)
  const agents = await findAgents(target, node)
  const pods = [
    ...agents.map(({ pod }) => ({ pod, podNamespace: undefined })),
    ...(node === undefined ? await othersOf(target) : []),
  ]
  const ended = new AbortController()
  process.once('SIGINT', () => ended.abort())
  const printLine = (line: AuditLine): void => print(output === 'json' ? line.raw : auditText(line))
  const read: AuditLine[] = []
  const follow = flags.follow === true
  await Promise.all(
    pods.map(async (pod) => {
      const asked = { ...pod, namespace, sinceSeconds: since, follow, signal: ended.signal }
      try {
        await auditLines(target, asked, (raw) => {
          const line = readAuditLine(raw)
          if (line === undefined) return
          // Followed, lines come as they are; else one audit is made of all.
          if (follow) printLine(line)
          else read.push(line)
        })
      } catch (thrown) {
        printError(thrown)
        process.exitCode = 1
      }
    }),
  )
  for (const line of inOrder(read)) printLine(line)
}

/** Controllers, and the pods of waypoints. */
async function othersOf(
  target: ClusterTarget,
): Promise<readonly { readonly pod: string; readonly podNamespace: string | undefined }[]> {
  const [controllers, waypoints] = await Promise.all([controllerPods(target), waypointPods(target)])
  return [
    ...controllers.map((pod) => ({ pod, podNamespace: undefined })),
    ...waypoints.map(({ pod, namespace }) => ({ pod, podNamespace: namespace })),
  ]
}
