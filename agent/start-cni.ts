// SPDX-License-Identifier: Apache-2.0
// The agent's end of CNI: the socket that the plugin asks, and the plugin's place on the node.

import path from 'node:path'
import type { MeshState } from '../mesh/model/mesh-state.ts'
import type { KubeApi } from '../mesh/kube/index.ts'
import { CniCondition } from './cni-condition.ts'
import {
  type CniInstallation,
  installCni,
  MEMBERS_FILE,
  MembersKeeper,
  startCniServer,
} from './cni/index.ts'
import type { AgentConfig } from './config.ts'
import { eligibilityOf, type NodeEnrolment } from './enrolment/index.ts'
import { type Starting, unwrap } from './starting.ts'

export interface CniParts {
  readonly api: KubeApi
  readonly enrolment: NodeEnrolment
  readonly mesh: MeshState
  /** Whether the control plane has told of all workloads. */
  readonly isMeshSynced: () => boolean
}

/** What the rest of the agent tells CNI. */
export interface StartedCni {
  /** The namespaces with pods in the mesh may be others than before. */
  membershipChanged(): void
}

/** A change of the mesh state may concern tens of thousands of workloads, and comes many times a second. */
const MESH_CHANGES_MS = 1_000

/** Answers the plugin, and puts it on the node if the flags say where. */
export async function startCni(starting: Starting, parts: CniParts): Promise<StartedCni> {
  const { config, log, started, readiness } = starting
  const cni = unwrap(
    await startCniServer({
      socketPath: config.cniSocket,
      handlers: parts.enrolment,
      logger: log.child({ part: 'cni' }),
    }),
  )
  started.defer(() => cni.close())
  readiness.done('CNI socket')
  const { cniBinDir, cniConfDir } = config
  if (cniBinDir === undefined || cniConfDir === undefined) {
    log.info('no --cni-bin-dir and --cni-conf-dir: the CNI plugin is not installed by this agent')
    return { membershipChanged: () => undefined }
  }
  const file = config.cniMembers ?? path.join(cniConfDir, MEMBERS_FILE)
  const members = await keepMembers(starting, parts, file)
  await chainCni(starting, parts, { cniBinDir, cniConfDir, file, members })
  return { membershipChanged: () => members.changed() }
}

async function keepMembers(
  { config, log, started }: Starting,
  { enrolment, mesh, isMeshSynced }: CniParts,
  file: string,
): Promise<MembersKeeper> {
  const members = await MembersKeeper.start({
    file,
    epoch: enrolment.epoch,
    mayWrite: () => enrolment.isInCharge(),
    known: () => {
      const namespaces = enrolment.meshNamespaces(mesh.workloads(), config.clusterId)
      return namespaces && { namespaces, isComplete: isMeshSynced() }
    },
    logger: log.child({ part: 'cni' }),
  })
  started.defer(() => members.close())
  started.defer(mesh.subscribe(() => members.changed(MESH_CHANGES_MS)))
  return members
}

async function chainCni(
  { config, log, started, ending }: Starting,
  { api, enrolment }: CniParts,
  place: {
    readonly cniBinDir: string
    readonly cniConfDir: string
    readonly file: string
    readonly members: MembersKeeper
  },
): Promise<void> {
  const { members } = place
  const { podNamespace, podName } = config
  const condition = new CniCondition({
    api,
    podNamespace,
    podName,
    log: log.child({ part: 'cni' }),
  })
  started.use(condition)
  const installation = unwrap(
    await installCni({
      binaryPath: config.cniBinary,
      binDirectory: place.cniBinDir,
      confDirectory: place.cniConfDir,
      config: {
        socket: config.cniSocket,
        excludeNamespaces: [...eligibilityOf(config).excludeNamespaces],
        members: place.file,
        ...ownPods(config),
      },
      logger: log.child({ part: 'cni' }),
      // A plugin without the file would let nobody in while the agent is away.
      mayWrite: async () => members.hasTried && (await enrolment.isInCharge()),
      onStanding: (problem) => condition.tell(problem),
    }),
  )
  void members.tried.then(() => installation.look())
  started.defer(async () => {
    if (ending.unpin) await leaveNode(installation, members)
    else await installation.close()
  })
}

/**
 * Takes the plugin off the node, and then the file that it goes by. Not where the plugin stays in a list that cannot be changed: without the file
 * it would let no pod start for ever, and by the file's age it finds that it was left behind. Throws AMB_CNI_INSTALL.
 */
export async function leaveNode(
  installation: Pick<CniInstallation, 'uninstall'>,
  members: Pick<MembersKeeper, 'remove'>,
): Promise<void> {
  unwrap(await installation.uninstall())
  await members.remove()
}

/** How the kubelet's directories of the agents' logs begin, by this one's name: that of its DaemonSet, and five letters. */
function ownPods({ podLogs, podNamespace, podName }: AgentConfig): {
  readonly podLogs?: string
  readonly agentPods?: string
} {
  const owner = /^(.+-)[a-z0-9]{5}$/.exec(podName)?.[1]
  return owner === undefined ? {} : { podLogs, agentPods: `${podNamespace}_${owner}` }
}
