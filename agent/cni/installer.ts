// SPDX-License-Identifier: Apache-2.0
// Puts ambit-cni on the node and chains it behind the cluster's CNI, and keeps it there: CNIs rewrite their
// configuration whenever they feel like it, and a pod made in between would start outside the mesh.

import { watch, type FSWatcher } from 'node:fs'
import { copyFile, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import type { Result } from '../../mesh/result.ts'
import { err, ok } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { chainPlugin, CNI_PLUGIN_TYPE, unchainPlugin, type CniPluginConfig } from './conflist.ts'
import { replaceFile, temporaryName } from './replace-file.ts'

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
  /** Stops watching, takes our plugin out of every configuration, removes the binary. */
  uninstall(): Promise<Result<void, AmbitError>>
}

/** A look at the directory in any case this often: watches on overlays and bind mounts may miss a rename. */
const RECHECK_MS = 10_000
/** What runtimes consider a configuration; the first of them by name is in force. */
const CONFIGURATION_FILE = /\.(conflist|conf|json)$/

/** Installs, and keeps installed until closed. Fails only when the binary or the directories cannot be had. */
export async function installCni(
  options: CniInstallOptions,
): Promise<Result<CniInstallation, AmbitError>> {
  try {
    await mkdir(options.binDirectory, { recursive: true })
    await mkdir(options.confDirectory, { recursive: true })
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
    try {
      for (const name of await configurations(this.#options.confDirectory))
        await this.#unchain(path.join(this.#options.confDirectory, name))
      await rm(path.join(this.#options.binDirectory, CNI_PLUGIN_TYPE), { force: true })
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
    const names = await configurations(confDirectory)
    const [first] = names
    const target = names.find((name) => name.endsWith('.conflist'))
    for (const name of names)
      if (name !== target && name.endsWith('.conflist'))
        await this.#unchain(path.join(confDirectory, name))
    const chained = target === undefined ? undefined : await this.#chain(target)
    this.chainedIn = chained?.isDone === true ? target : undefined
    if (target === undefined)
      this.#stands(
        `${confDirectory} has no list of plugins (*.conflist): new pods are not enrolled at their start. Does the runtime keep its CNI configuration elsewhere?`,
      )
    else if (first !== undefined && first !== target)
      this.#stands(
        `runtimes use ${path.join(confDirectory, first)}, which is no .conflist and cannot be chained into: new pods are not enrolled at their start`,
      )
    else if (chained?.isDone === true || chained?.problem !== undefined)
      this.#stands(chained.problem)
    await this.#restoreBinary()
  }

  async #chain(
    name: string,
  ): Promise<{ readonly isDone: boolean; readonly problem?: string | undefined }> {
    const file = path.join(this.#options.confDirectory, name)
    const text = await readIfThere(file)
    // Gone again, or just being written: the watch calls us when there is more.
    if (text === undefined || text.trim() === '') return { isDone: false }
    const edited = chainPlugin(text, this.#options.config)
    if (!edited.ok) {
      const problem = `cannot chain into ${file}: ${edited.error}`
      return { isDone: false, problem }
    }
    if (edited.value === undefined) return { isDone: true }
    // Else it was rewritten meanwhile, and the watch calls us for what stands there now.
    if (!(await replaceFile(file, text, edited.value))) return { isDone: false }
    this.#logger.info({ file }, 'chained ambit-cni into the CNI configuration')
    return { isDone: true }
  }

  /** How it stands now: why new pods start without the plugin, or that they do not. */
  #stands(problem: string | undefined): void {
    if (problem !== undefined) this.#complain(problem)
    if (this.#hasStood && problem === this.#problem) return
    this.#hasStood = true
    this.#problem = problem
    this.#options.onStanding?.(problem)
  }

  async #unchain(file: string): Promise<void> {
    const text = await readIfThere(file)
    if (text === undefined || !text.includes(CNI_PLUGIN_TYPE)) return
    const edited = unchainPlugin(text)
    if (!edited.ok) {
      this.#complain(`cannot take ambit-cni out of ${file}: ${edited.error}`)
      return
    }
    if (edited.value === undefined) return
    if (!(await replaceFile(file, text, edited.value))) return this.#unchain(file)
    this.#logger.info({ file }, 'took ambit-cni out of the CNI configuration')
  }

  /** Some CNI installers empty the directory of binaries. */
  async #restoreBinary(): Promise<void> {
    const target = path.join(this.#options.binDirectory, CNI_PLUGIN_TYPE)
    if ((await stat(target).catch(ignoreMissing)) !== undefined) return
    await installBinary(this.#options)
    this.#logger.warn({ target }, 'the ambit-cni binary had been removed; put it back')
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
      await handle.chmod(0o755)
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
  const names = await readdir(directory)
  // By code units, as runtimes sort them; localeCompare would order otherwise.
  return names.filter((name) => CONFIGURATION_FILE.test(name) && !name.startsWith('.')).sort()
}

async function readIfThere(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch(ignoreMissing)
}

function ignoreMissing(thrown: unknown): undefined {
  if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
  throw thrown
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
