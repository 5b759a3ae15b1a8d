// SPDX-License-Identifier: Apache-2.0
// Puts ambit-cni on the node and chains it behind the cluster's CNI, and keeps it there: CNIs rewrite their
// configuration whenever they feel like it, and a pod made in between would start outside the mesh.

import { watch, type FSWatcher } from 'node:fs'
import {
  copyFile,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
} from 'node:fs/promises'
import path from 'node:path'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import type { Result } from '../../mesh/result.ts'
import { err, ok } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { chainPlugin, CNI_PLUGIN_TYPE, unchainPlugin, type CniPluginConfig } from './conflist.ts'
import { removeTemporaries, replaceFile, temporaryName, unlessMissing } from './replace-file.ts'

export interface CniInstallOptions {
  /** The built plugin. */
  readonly binaryPath: string
  /** --cni-bin-dir, e.g. /opt/cni/bin */
  readonly binDirectory: string
  /** --cni-conf-dir, e.g. /etc/cni/net.d */
  readonly confDirectory: string
  readonly config: CniPluginConfig
  readonly logger: Logger
  /** Asked before each look. Once the node is another agent's, that one keeps the plugin, by its own configuration. */
  readonly mayWrite: () => Promise<boolean>
  /** Told at the first look and whenever it changes: why new pods start without the plugin; undefined when they do not. */
  readonly onStanding?: (problem: string | undefined) => void
}

export interface CniInstallation {
  /** The configuration file our plugin is chained in; undefined while there is none to chain into. */
  readonly chainedIn: string | undefined
  /** Looks at the configuration now: what mayWrite() waits for has come. */
  look(): Promise<void>
  /** Stops watching; leaves everything in place (restart, upgrade). */
  close(): Promise<void>
  /** Stops watching, takes our plugin out of every configuration, removes the binary: that stays where a configuration still names it. */
  uninstall(): Promise<Result<void, AmbitError>>
}

/** A look at the directory in any case this often: watches on overlays and bind mounts may miss a rename. */
const RECHECK_MS = 10_000
/** What runtimes consider a configuration; the first of them by name is in force. */
const CONFIGURATION_FILE = /\.(conflist|conf|json)$/
/** More than the plugin takes of a runtime. */
const LARGEST_CONFIGURATION = 1024 * 1024
const BINARY_MODE = 0o755
/** No change of a file takes as long. */
const ABANDONED_MS = 60_000

/** A configuration as it stands there, or why it is none that can be changed. */
type Read =
  | { readonly kind: 'text'; readonly file: string; readonly text: string }
  | { readonly kind: 'unusable'; readonly problem: string }

/** Installs, and keeps installed until closed. Fails only when the binary or the directories cannot be had. */
export async function installCni(
  options: CniInstallOptions,
): Promise<Result<CniInstallation, AmbitError>> {
  try {
    await mkdir(options.binDirectory, { recursive: true })
    await mkdir(options.confDirectory, { recursive: true })
    for (const directory of [options.binDirectory, options.confDirectory])
      await removeTemporaries(directory, ABANDONED_MS)
    await installBinary(options)
    const keeper = new ChainKeeper(options)
    await keeper.start()
    return ok(keeper)
  } catch (thrown) {
    return err(installError(options, 'install', thrown))
  }
}

class ChainKeeper implements CniInstallation {
  readonly #options: CniInstallOptions
  readonly #logger: Logger
  #watcher: FSWatcher | undefined
  #timer: NodeJS.Timeout | undefined
  #closed = false
  /** The check under way; checks never overlap. */
  #checking: Promise<void> = Promise.resolve()
  #checkQueued = false
  readonly #complaints = new Set<string>()
  #hasStood = false
  #problem: string | undefined
  chainedIn: string | undefined

  constructor(options: CniInstallOptions) {
    this.#options = options
    this.#logger = options.logger.child({ confDirectory: options.confDirectory })
  }

  async start(): Promise<void> {
    // Watch first, then look: whatever changes in between is seen by one of the two.
    this.#watcher = watch(this.#options.confDirectory, () => this.#queueCheck())
    this.#watcher.on('error', (thrown) =>
      this.#logger.warn(
        { error: thrown },
        'watching the CNI configuration failed; polling goes on',
      ),
    )
    this.#timer = setInterval(() => this.#queueCheck(), RECHECK_MS)
    this.#timer.unref()
    this.#queueCheck()
    await this.#checking
  }

  async look(): Promise<void> {
    this.#queueCheck()
    await this.#checking
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#watcher?.close()
    clearInterval(this.#timer)
    await this.#checking
  }

  async uninstall(): Promise<Result<void, AmbitError>> {
    await this.close()
    const { binDirectory, confDirectory } = this.#options
    try {
      const problems: string[] = []
      // One that cannot be changed keeps none of the others from it.
      for (const name of await configurations(confDirectory))
        await this.#unchain(name).catch((thrown: unknown) => {
          problems.push(`${path.join(confDirectory, name)}: ${errorMessage(thrown)}`)
        })
      // Runtimes start no pod at all by a list whose plugin is not there.
      if (problems.length > 0) throw new Error(problems.join('; '))
      await rm(path.join(binDirectory, CNI_PLUGIN_TYPE), { force: true })
      for (const directory of [binDirectory, confDirectory]) await removeTemporaries(directory, 0)
      this.chainedIn = undefined
      return ok(undefined)
    } catch (thrown) {
      return err(installError(this.#options, 'uninstall', thrown))
    }
  }

  #queueCheck(): void {
    if (this.#checkQueued || this.#closed) return
    this.#checkQueued = true
    this.#checking = this.#checking
      .then(() => {
        this.#checkQueued = false
        return this.#closed ? undefined : this.#check()
      })
      .catch((thrown: unknown) => {
        this.#stands(`cannot keep the CNI configuration: ${errorMessage(thrown)}`)
      })
  }

  async #check(): Promise<void> {
    if (!(await this.#options.mayWrite())) return
    const { confDirectory } = this.#options
    const problems: string[] = []
    let chainedIn: string | undefined
    for (const name of await configurations(confDirectory)) {
      if (chainedIn !== undefined) {
        await this.#unchain(name).catch((thrown: unknown) =>
          this.#complain(`cannot take ambit-cni out of ${name}: ${errorMessage(thrown)}`),
        )
        continue
      }
      const done = await this.#chain(name)
      // The watch calls us for what stands there now.
      if (done.kind === 'changed') return
      if (done.kind === 'chained') chainedIn = name
      else {
        problems.push(done.problem)
        await this.#unchain(name)
      }
    }
    this.chainedIn = chainedIn
    if (problems.length === 0 && chainedIn === undefined)
      problems.push(
        `${confDirectory} has no list of plugins (*.conflist): new pods are not enrolled at their start. Does the runtime keep its CNI configuration elsewhere?`,
      )
    // Of several it is the first that runtimes use, or stumble over.
    this.#stands(problems[0])
    await this.#restoreBinary()
  }

  /** Chains into a file, if it is one to chain into. */
  async #chain(
    name: string,
  ): Promise<
    | { readonly kind: 'chained' }
    | { readonly kind: 'changed' }
    | { readonly kind: 'unusable'; readonly problem: string }
  > {
    const place = path.join(this.#options.confDirectory, name)
    if (!name.endsWith('.conflist'))
      return {
        kind: 'unusable',
        problem: `runtimes use ${place}, which is no .conflist and cannot be chained into: new pods are not enrolled at their start`,
      }
    const read = await readConfiguration(place)
    if (read === undefined) return { kind: 'changed' }
    const unusable = (problem: string) =>
      ({ kind: 'unusable', problem: `cannot chain into ${place}: ${problem}` }) as const
    if (read.kind === 'unusable') return unusable(read.problem)
    const edited = chainPlugin(read.text, this.#options.config)
    if (!edited.ok) return unusable(edited.error)
    if (edited.value === undefined) return { kind: 'chained' }
    if (!(await replaceFile(read.file, read.text, edited.value))) return { kind: 'changed' }
    this.#logger.info({ file: read.file }, 'chained ambit-cni into the CNI configuration')
    return { kind: 'chained' }
  }

  /** How it stands now: why new pods start without the plugin, or that they do not. */
  #stands(problem: string | undefined): void {
    if (problem !== undefined) this.#complain(problem)
    if (this.#hasStood && problem === this.#problem) return
    this.#hasStood = true
    this.#problem = problem
    this.#options.onStanding?.(problem)
  }

  /** Of what is no list that can be read, our plugin was never a part. */
  async #unchain(name: string): Promise<void> {
    if (!name.endsWith('.conflist')) return
    const place = path.join(this.#options.confDirectory, name)
    const read = await readConfiguration(place)
    if (read?.kind !== 'text' || !read.text.includes(CNI_PLUGIN_TYPE)) return
    const edited = unchainPlugin(read.text)
    if (!edited.ok) {
      this.#complain(`cannot take ambit-cni out of ${place}: ${edited.error}`)
      return
    }
    if (edited.value === undefined) return
    if (!(await replaceFile(read.file, read.text, edited.value))) return this.#unchain(name)
    this.#logger.info({ file: read.file }, 'took ambit-cni out of the CNI configuration')
  }

  /** Some CNI installers empty the directory of binaries, and a full disk cuts off what is copied there. */
  async #restoreBinary(): Promise<void> {
    const { binaryPath, binDirectory } = this.#options
    const target = path.join(binDirectory, CNI_PLUGIN_TYPE)
    const found = await stat(target).catch(unlessMissing)
    const { size } = await stat(binaryPath)
    if (found?.isFile() === true && found.size === size && (found.mode & 0o777) === BINARY_MODE)
      return
    await installBinary(this.#options)
    this.#logger.warn(
      { target },
      `the ambit-cni binary had been ${found === undefined ? 'removed' : 'changed'}; put it back`,
    )
  }

  /** Says each thing once, not every ten seconds. */
  #complain(message: string): void {
    if (this.#complaints.has(message)) return
    this.#complaints.add(message)
    this.#logger.warn(message)
  }
}

async function installBinary({ binaryPath, binDirectory }: CniInstallOptions): Promise<void> {
  const target = path.join(binDirectory, CNI_PLUGIN_TYPE)
  const temporary = temporaryName(target)
  try {
    await copyFile(binaryPath, temporary)
    const handle = await open(temporary, 'r+')
    try {
      await handle.chmod(BINARY_MODE)
      await handle.sync()
    } finally {
      await handle.close()
    }
    // A rename: a runtime executing the old one keeps it, and none ever sees half of the new.
    await rename(temporary, target)
  } catch (thrown) {
    await rm(temporary, { force: true })
    throw thrown
  }
}

async function configurations(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { withFileTypes: true })
  return (
    entries
      // Directories are passed over by runtimes, whatever they are called.
      .filter((entry) => CONFIGURATION_FILE.test(entry.name) && !entry.isDirectory())
      .map(({ name }) => name)
      .filter((name) => !name.startsWith('.'))
      // By code units, as runtimes sort them; localeCompare would order otherwise.
      .sort()
  )
}

/** Undefined where it has gone since the directory was read. */
async function readConfiguration(place: string): Promise<Read | undefined> {
  try {
    // What a link leads to is changed, and the link stays: whoever writes there goes on to be heard.
    const file = await realpath(place)
    const found = await stat(file)
    // Before it is opened: a FIFO would be waited for.
    if (!found.isFile()) return { kind: 'unusable', problem: 'it is no regular file' }
    if (found.size > LARGEST_CONFIGURATION)
      return { kind: 'unusable', problem: 'it is larger than 1 MiB' }
    return { kind: 'text', file, text: await readFile(file, 'utf8') }
  } catch (thrown) {
    if ((await lstat(place).catch(unlessMissing)) === undefined) return undefined
    return { kind: 'unusable', problem: errorMessage(thrown) }
  }
}

function installError(
  { confDirectory }: CniInstallOptions,
  verb: string,
  thrown: unknown,
): AmbitError {
  return new AmbitError(
    'AMB_CNI_INSTALL',
    `Cannot ${verb} the CNI plugin (${confDirectory}): ${errorMessage(thrown)}`,
    { cause: thrown },
  )
}
