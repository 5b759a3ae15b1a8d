// SPDX-License-Identifier: Apache-2.0
// Keeps on disk what the pods of this node are admitted by, so that an agent that starts while no control plane answers serves them
// with the policies that were last in force, and never without. What is kept is provisional: discovery, once it has told of everything,
// has the last word. What cannot be trusted is not used, and the pods are closed until then.

import { constants } from 'node:fs'
import { mkdir, open, rename, rm, rmdir } from 'node:fs/promises'
import path from 'node:path'
import { ERROR_CATALOGUE, errorMessage } from '../../mesh/errors.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { MeshChange, WorkloadUid } from '../../mesh/model/types.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { decodeHeld, encodeHeld } from './held-file.ts'
import { changesOfHeld, type HeldState, heldStateOf } from './held-state.ts'
import { LastWords } from './last-words.ts'

export interface PolicyStoreOptions {
  readonly directory: string
  readonly nodeName: string
  readonly mesh: MeshState
  /** Whether the workload is a pod that this agent serves. */
  readonly isServed: (uid: WorkloadUid) => boolean
  /** Whether this agent is still the one that writes on this node. */
  readonly mayWrite: () => Promise<boolean>
  readonly log: Logger
}

/** In the agent's directory of state. */
export const POLICIES_DIRECTORY = 'policies'
const FILE = 'held'
/** Changes of this time are written together: a policy that flaps costs four writes a second. A crash loses no more than it. */
const GATHER_MS = 250
/** Far beyond what any node needs; what is larger is nothing of ours. */
const LARGEST_FILE = 256 * 1024 * 1024
const OTHERS_MAY_WRITE = 0o022

export class PolicyStore {
  readonly #options: PolicyStoreOptions
  readonly #file: string
  /** Of the workloads of this node. */
  readonly lastWords: LastWords
  /** Of what was held, the keys that discovery has not told of yet. */
  readonly #unconfirmed = {
    policies: new Set<string>(),
    networkPolicies: new Set<string>(),
    workloads: new Set<WorkloadUid>(),
  }
  readonly #unsubscribe: () => void
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()
  #written: Buffer | undefined

  private constructor(options: PolicyStoreOptions, held: HeldState | undefined) {
    this.#options = options
    this.#file = path.join(options.directory, FILE)
    const { mesh } = options
    if (held !== undefined) mesh.apply(changesOfHeld(held))
    for (const { key } of [...(held?.policies ?? []), ...(held?.unreadable ?? [])])
      this.#unconfirmed.policies.add(key)
    for (const { key } of [...(held?.networkPolicies ?? []), ...(held?.unreadableNetwork ?? [])])
      this.#unconfirmed.networkPolicies.add(key)
    for (const { uid } of held?.workloads ?? []) this.#unconfirmed.workloads.add(uid)
    for (const [uid] of held?.unreadableWorkloads ?? []) this.#unconfirmed.workloads.add(uid)
    this.lastWords = new LastWords(options.nodeName, mesh)
    this.#unsubscribe = mesh.subscribe((changes) => this.#onChanges(changes))
  }

  /** Reads what was held, gives it to the mesh state, and keeps it from then on. To be called before a pod is served. */
  static async open(options: PolicyStoreOptions): Promise<PolicyStore> {
    return new PolicyStore(options, await readHeld(options))
  }

  /** What discovery, having told of everything, did not tell of: to be applied before its state is called complete. */
  outdated(): MeshChange[] {
    const { policies, networkPolicies, workloads } = this.#unconfirmed
    const changes: MeshChange[] = [
      ...[...policies].map((key) => ({ kind: 'policyRemoved', key }) as MeshChange),
      ...[...networkPolicies].map((key) => ({ kind: 'networkPolicyRemoved', key }) as MeshChange),
      ...[...workloads].map((uid) => ({ kind: 'workloadRemoved', uid }) as const),
    ]
    policies.clear()
    networkPolicies.clear()
    workloads.clear()
    return changes
  }

  /** This agent writes from now on: what the one before wrote last may lack what both have heard since, and be in its own words. */
  begin(): void {
    if (this.#options.mesh.policies.knowledge === 'current') this.#writeSoon()
  }

  /** Writes what is not written yet, and stops. */
  async close(): Promise<void> {
    this.#unsubscribe()
    if (this.#timer !== undefined) this.#flush()
    await this.#writing
  }

  #onChanges(changes: readonly MeshChange[]): void {
    let isOurs = this.lastWords.hear(changes)
    for (const change of changes)
      switch (change.kind) {
        case 'workload':
          this.#unconfirmed.workloads.delete(change.workload.uid)
          break
        case 'workloadRemoved':
        case 'workloadUnreadable':
          this.#unconfirmed.workloads.delete(change.uid)
          break
        case 'policy':
        case 'policyUnreadable':
          this.#unconfirmed.policies.delete(change.policy.key)
          isOurs = true
          break
        case 'policyRemoved':
          this.#unconfirmed.policies.delete(change.key)
          isOurs = true
          break
        case 'networkPolicy':
        case 'networkPolicyUnreadable':
          this.#unconfirmed.networkPolicies.delete(change.policy.key)
          isOurs = true
          break
        case 'networkPolicyRemoved':
          this.#unconfirmed.networkPolicies.delete(change.key)
          isOurs = true
          break
        case 'policyKnowledge':
          isOurs = true
          break
        case 'service':
        case 'serviceRemoved':
        case 'node':
        case 'nodeRemoved':
        // For waypoints alone.
        case 'httpRoutes':
        case 'httpRoutesRemoved':
        case 'backendTls':
        case 'backendTlsRemoved':
        case 'waypointPolicy':
        case 'waypointPolicyRemoved':
        case 'waypointPolicyUnreadable':
      }
    // Before discovery has told of everything, what is known is less than what is held.
    if (!isOurs || this.#options.mesh.policies.knowledge !== 'current') return
    this.#writeSoon()
  }

  #writeSoon(): void {
    this.#timer ??= setTimeout(() => this.#flush(), GATHER_MS)
  }

  #flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#writing = this.#writing.then(() => this.#write())
  }

  async #write(): Promise<void> {
    const { directory, nodeName, mesh, isServed, mayWrite, log } = this.#options
    this.lastWords.forget(isServed)
    const { lastWords } = this
    const held = heldStateOf(mesh, lastWords.workloads(), lastWords.unreadable())
    const bytes = encodeHeld(nodeName, held)
    if (this.#written?.equals(bytes) === true || !(await mayWrite())) return
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 })
      await writeAtomically(this.#file, bytes)
      this.#written = bytes
    } catch (thrown) {
      this.#written = undefined
      log.error(
        { file: this.#file, error: errorMessage(thrown) },
        'cannot keep the policies of this node: started without a control plane, the next agent will have its pods closed',
      )
      // What stands there was in force once, and is not any more: served with it, pods could be open to whom they are closed.
      await rm(this.#file, { force: true }).catch((error: unknown) =>
        log.error(
          { file: this.#file, error: errorMessage(error) },
          'cannot remove outdated policies',
        ),
      )
    }
  }
}

/** Removes what a store has kept below the agent's directory of state. */
export async function removeHeldPolicies(stateDirectory: string): Promise<void> {
  const directory = path.join(stateDirectory, POLICIES_DIRECTORY)
  for (const name of [FILE, `${FILE}.tmp`]) await rm(path.join(directory, name), { force: true })
  await rmdir(directory).catch((thrown: unknown) => {
    const { code } = thrown as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ENOTEMPTY') throw thrown
  })
}

async function readHeld(options: PolicyStoreOptions): Promise<HeldState | undefined> {
  const { directory, nodeName, log } = options
  const file = path.join(directory, FILE)
  const refuse = (reason: string): undefined => {
    log.error(
      { code: 'AMB_HELD_POLICIES', hint: ERROR_CATALOGUE.AMB_HELD_POLICIES, file, reason },
      'the policies that were kept cannot be used: pods are closed until the control plane has told its own',
    )
  }
  try {
    const bytes = await readOwn(file)
    if (typeof bytes === 'string') return refuse(bytes)
    const held = decodeHeld(nodeName, bytes)
    if (!held.ok) return refuse(held.error)
    const { workloads, policies, unreadable } = held.value
    log.info(
      {
        file,
        workloads: workloads.length,
        policies: policies.length,
        unreadable: unreadable.length,
      },
      'the policies that were last in force are in force until the control plane tells its own',
    )
    return held.value
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    return refuse(errorMessage(thrown))
  }
}

/** The bytes of a file that nobody but this user can have written, or what is wrong with it. */
async function readOwn(file: string): Promise<Buffer | string> {
  await using handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW)
  const { uid, mode, size } = await handle.stat()
  if (uid !== process.getuid?.()) return `it belongs to user ${uid}`
  if ((mode & OTHERS_MAY_WRITE) !== 0) return 'others may write it'
  if (size > LARGEST_FILE) return `it has ${size} bytes, more than ${LARGEST_FILE}`
  return handle.readFile()
}

/** In one step for whoever reads, also when the machine stops in between: the content is on disk before the name is. */
async function writeAtomically(file: string, bytes: Buffer): Promise<void> {
  const fresh = `${file}.tmp`
  await rm(fresh, { force: true })
  {
    await using handle = await open(fresh, 'wx', 0o600)
    await handle.writeFile(bytes)
    await handle.sync()
  }
  await rename(fresh, file)
  await using directory = await open(path.dirname(file), constants.O_RDONLY)
  await directory.sync()
}
