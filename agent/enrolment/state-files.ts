// SPDX-License-Identifier: Apache-2.0
// What the agent remembers of its pods across restarts: one small file a pod, so that it can go on while the API
// server is away. Nothing in a file is believed that the kernel does not confirm. Each says which agent's it is, by its
// epoch; files of earlier agents are read, also of those that knew no epochs, and so are those of the version after this one, for an agent may
// be rolled back: what is new in a file is a field that an earlier agent does without. Of another format nothing is guessed: its pod is looked
// for as if it had never been met, and what is captured of it stays so.

import type { Dirent } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { parseJson } from '../../mesh/json.ts'
import { parseIpAddress } from '../../mesh/model/address.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { POLICIES_DIRECTORY } from '../policy-store/policy-store.ts'
import { isSameNetns, netnsAt, ownNetns, type NetnsIdentity } from './netns-identity.ts'
import { EPOCH_FILE, type Ownership } from './ownership.ts'

export interface PodState {
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly serviceAccount: string
  readonly netnsPath: string
  readonly identity: NetnsIdentity
  /** SO_NETNS_COOKIE, known once enrolled; never reused while the machine is up. */
  readonly netnsCookie: bigint | undefined
  readonly addresses: readonly IpAddress[]
  /** The sandbox by CNI; undefined for pods found in /proc. */
  readonly containerId: string | undefined
  /** Captured, or just about to be. */
  readonly isEnrolled: boolean
  /** When it left the mesh, if there may be peers that have not heard of it; in milliseconds since the epoch. */
  readonly leftAt: number | undefined
}

const FILE_VERSION = 1
const FILE_NAME = /^([A-Za-z0-9._-]+)\.json$/
/** What an agent that was killed had not finished; earlier ones wrote no epoch into the name. */
const UNFINISHED = /^[A-Za-z0-9._-]+\.json(?:\.\d+)?\.tmp$/

/** What else the agent keeps there. */
const NOT_OF_PODS = new Set([EPOCH_FILE, POLICIES_DIRECTORY])

/** Somebody else's file: the directory may be another than an agent's own. */
const FOREIGN = 'not ours'

export class PodStateFiles {
  readonly #directory: string
  readonly #ownership: Ownership
  readonly #logger: Logger
  readonly #bootIdFile: string
  #bootId: Promise<string> | undefined
  /** Writes happen in the order in which they are asked for. */
  #writes: Promise<unknown> = Promise.resolve()

  constructor(directory: string, ownership: Ownership, logger: Logger, procRoot = '/proc') {
    this.#directory = directory
    this.#ownership = ownership
    this.#logger = logger
    this.#bootIdFile = path.join(procRoot, 'sys/kernel/random/boot_id')
  }

  /**
   * Writes a pod's file in one step. False where another agent owns the node by now, and after a failure, which is
   * logged: the pod works, a restart will have to look for it.
   */
  save(state: PodState): Promise<boolean> {
    return this.#inTurn('write', state.uid, async (file) => {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 })
      const { epoch } = this.#ownership
      const text = JSON.stringify({
        version: FILE_VERSION,
        epoch,
        bootId: await this.#boot(),
        ...state,
        netnsCookie: state.netnsCookie?.toString(),
      })
      // By a name of its own: an agent that has just been succeeded may be writing the same pod's.
      const fresh = `${file}.${epoch}.tmp`
      await writeFile(fresh, text, { mode: 0o600 })
      if (await this.#ownership.holds()) await rename(fresh, file)
      else await rm(fresh, { force: true })
    })
  }

  remove(uid: string): Promise<boolean> {
    return this.#inTurn('remove', uid, (file) => rm(file, { force: true }))
  }

  /**
   * All states that still hold: written in this boot, their namespace still the same. Removes the others, and nothing that
   * no agent wrote.
   */
  async load(): Promise<readonly PodState[]> {
    const own = await ownNetns()
    const states: PodState[] = []
    for (const entry of await entriesOf(this.#directory)) {
      const { name } = entry
      if (NOT_OF_PODS.has(name)) continue
      const file = path.join(this.#directory, name)
      // Agents write files: a FIFO would be waited for, and a link may lead anywhere.
      const uid = entry.isFile() ? FILE_NAME.exec(name)?.[1] : undefined
      const state =
        uid === undefined
          ? entry.isFile() && UNFINISHED.test(name)
            ? 'it was never finished'
            : FOREIGN
          : await this.#read(file, uid, own).catch((thrown: unknown) => String(thrown))
      if (state === FOREIGN)
        this.#logger.warn({ file }, 'what is here is no state of a pod; it is left alone')
      else if (typeof state !== 'string') states.push(state)
      else {
        this.#logger.info({ file, reason: state }, 'dropped the state of a pod')
        // Not recursive: a directory is none of ours, and whoever named the wrong one is to lose nothing by it.
        await rm(file, { force: true }).catch((thrown: unknown) =>
          this.#logger.warn({ error: thrown, file }, 'cannot remove the state of a pod'),
        )
      }
    }
    return states
  }

  async #read(
    file: string,
    uid: string,
    own: NetnsIdentity | undefined,
  ): Promise<PodState | string> {
    const value: unknown = JSON.parse(await readFile(file, 'utf8'))
    if (!isOfAgent(value)) return FOREIGN
    const { version } = value as { readonly version?: unknown }
    if (version !== FILE_VERSION)
      return `it is of format ${String(version)}, and this agent reads ${FILE_VERSION}`
    const state = parseState(value, uid)
    if (state === undefined) return 'it has not the fields expected'
    if ((value as { bootId?: unknown }).bootId !== (await this.#boot()))
      return 'the machine has been restarted since'
    const identity = await netnsAt(state.netnsPath)
    if (!isSameNetns(identity, state.identity)) return 'its network namespace is gone'
    if (isSameNetns(identity, own)) return "its network namespace is the node's own"
    return state
  }

  #inTurn(verb: string, uid: string, write: (file: string) => Promise<void>): Promise<boolean> {
    const file = this.#file(uid)
    const written = this.#writes.then(async () => {
      if (!(await this.#ownership.holds())) return false
      try {
        await write(file)
        return true
      } catch (thrown) {
        this.#logger.warn({ error: thrown, file }, `cannot ${verb} the state of a pod`)
        return false
      }
    })
    this.#writes = written
    return written
  }

  #boot(): Promise<string> {
    this.#bootId ??= readFile(this.#bootIdFile, 'utf8').then((text) => text.trim())
    return this.#bootId
  }

  #file(uid: string): string {
    // UIDs come from the API server; a path is made of nothing else than what they are made of.
    return path.join(this.#directory, `${uid.replaceAll(/[^A-Za-z0-9._-]/g, '_')}.json`)
  }
}

/** Removes what agents have written in the directory, their epoch included: for an agent that takes the mesh off its node. */
export async function removePodStates(directory: string): Promise<void> {
  for (const entry of await entriesOf(directory)) {
    const { name } = entry
    if (!entry.isFile()) continue
    const file = path.join(directory, name)
    const isOurs =
      name === EPOCH_FILE ||
      UNFINISHED.test(name) ||
      (FILE_NAME.test(name) && isOfAgent(parsedOrNothing(await readFile(file, 'utf8'))))
    if (isOurs) await rm(file, { force: true })
  }
}

async function entriesOf(directory: string): Promise<readonly Dirent[]> {
  return readdir(directory, { withFileTypes: true }).catch((thrown: unknown) => {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw thrown
  })
}

function parsedOrNothing(text: string): unknown {
  const parsed = parseJson(text)
  return parsed.ok ? parsed.value : undefined
}

/** Every version of the file has said in which boot it was written. */
const isOfAgent = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && 'bootId' in value

function parseState(value: unknown, uid: string): PodState | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const fields = value as Readonly<Record<string, unknown>>
  const { namespace, name, serviceAccount, netnsPath, identity, containerId, netnsCookie } = fields
  if (
    fields.uid !== uid ||
    typeof namespace !== 'string' ||
    typeof name !== 'string' ||
    typeof serviceAccount !== 'string' ||
    typeof netnsPath !== 'string' ||
    !netnsPath.startsWith('/') ||
    typeof fields.isEnrolled !== 'boolean' ||
    !isIdentity(identity) ||
    !Array.isArray(fields.addresses)
  )
    return undefined
  const addresses: IpAddress[] = []
  for (const text of fields.addresses as readonly unknown[]) {
    const address = typeof text === 'string' ? parseIpAddress(text) : undefined
    if (address === undefined) return undefined
    addresses.push(address)
  }
  return {
    uid,
    namespace,
    name,
    serviceAccount,
    netnsPath,
    identity,
    addresses,
    isEnrolled: fields.isEnrolled,
    leftAt: typeof fields.leftAt === 'number' ? fields.leftAt : undefined,
    containerId: typeof containerId === 'string' ? containerId : undefined,
    netnsCookie:
      typeof netnsCookie === 'string' && /^\d+$/.test(netnsCookie)
        ? BigInt(netnsCookie)
        : undefined,
  }
}

function isIdentity(value: unknown): value is NetnsIdentity {
  return (
    typeof value === 'object' &&
    value !== null &&
    'device' in value &&
    typeof value.device === 'number' &&
    'inode' in value &&
    typeof value.inode === 'number'
  )
}
