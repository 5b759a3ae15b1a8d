// SPDX-License-Identifier: Apache-2.0
// One container of a pod: starts its process, notices its end however it came, restarts it by the pod's policy,
// probes it, and stops it with grace. Reports each change; the pod's worker makes the status of it.

import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { errorMessage } from '../../mesh/errors.ts'
import type { Result } from '../../mesh/result.ts'
import { tryCommand } from '../machine/command.ts'
import { SECRET_FILE_MODE } from '../machine/layout.ts'
import { containerCommand } from './container-exec.ts'
import type { Container } from './environment.ts'
import { containerLog, type ContainerRecord, podDirectory } from './pod-record.ts'
import { processRecord } from '../machine/process-record.ts'
import { type Probe, ProbeLoop, type ProbeOutcome, type ProbeTarget, runProbe } from './probe.ts'
import type { KubeletContext } from './context.ts'
import { type ContainerUser, enterScript, rootScript, type StartPlan } from './start-script.ts'

export type ContainerState =
  | { readonly kind: 'waiting'; readonly reason: string; readonly message: string }
  | { readonly kind: 'running'; readonly startedAt: string }
  | {
      readonly kind: 'terminated'
      readonly exitCode: number
      readonly signal: NodeJS.Signals | undefined
      readonly reason: string
      readonly message: string
      readonly startedAt: string
      readonly finishedAt: string
    }

/** What becomes of a container whose process ended. */
export type RestartPolicy = 'Always' | 'OnFailure' | 'Never'

/** Everything of a start that must be looked up anew for each start. */
export type StartInputs = Pick<
  StartPlan,
  'netns' | 'hostname' | 'hostMounts' | 'overlaidFiles' | 'mounts' | 'command' | 'workingDirectory'
> & { readonly environment: Readonly<Record<string, string>> }

export interface ContainerOptions {
  readonly context: KubeletContext
  readonly podUid: string
  readonly spec: Container
  readonly isInit: boolean
  readonly restartPolicy: RestartPolicy
  readonly user: ContainerUser
  /** Asked for each probe: a container is made before its pod has an address. */
  readonly podIp: () => string
  /** Resolves environment and volumes; the error becomes CreateContainerConfigError and is tried again. */
  readonly prepare: () => Promise<Result<StartInputs, string>>
  readonly onChange: () => void
  readonly onEvent: (type: 'Normal' | 'Warning', reason: string, message: string) => void
}

/** Restarts: the first at once, then after 1 s, 2 s, ... up to a minute; forgotten after a minute's good run. */
const FIRST_BACKOFF_MS = 1000
const LONGEST_BACKOFF_MS = 60_000
const GOOD_RUN_MS = 60_000
/** A configuration that is not there yet (a missing ConfigMap) is looked for again after this. */
const PREPARE_RETRY_MS = 1000
/** A hook that hangs must not hold its container for ever. */
const HOOK_TIMEOUT_MS = 30_000

/** Grace for a container that failed its liveness probe, unless the probe says otherwise. */
const UNHEALTHY_GRACE_SECONDS = 2
/** Bytes of a log's end in which its last line is looked for. */
const LONGEST_TAIL = 2048

export class ContainerRunner {
  readonly #options: ContainerOptions
  readonly #cgroup: string
  readonly #target: ProbeTarget
  #state: ContainerState = { kind: 'waiting', reason: 'PodInitializing', message: '' }
  #lastState: ContainerState | undefined
  #child: ChildProcess | undefined
  #environment: Readonly<Record<string, string>> = {}
  /** Of the latest process. */
  #startedAt = new Date()
  #restartCount = 0
  #failuresInRow = 0
  #isReady = false
  #isStarted = false
  #isStopping = false
  #isFinished = false
  /** The startup probe until it has passed, then the liveness probe. */
  #healthProbe: ProbeLoop | undefined
  #readinessProbe: ProbeLoop | undefined
  #retryTimer: NodeJS.Timeout | undefined
  #ended = Promise.withResolvers<void>()

  constructor(options: ContainerOptions) {
    this.#options = options
    const { context, podUid, spec } = options
    this.#cgroup = join(context.node.podsCgroup, `pod${podUid}`, spec.name)
    this.#target = {
      get podIp() {
        return options.podIp()
      },
      ports: new Map((spec.ports ?? []).map((port) => [port.name ?? '', port.containerPort])),
      exec: (command, timeoutMs) => this.#exec(command, timeoutMs),
    }
  }

  get spec(): Container {
    return this.#options.spec
  }

  get isInit(): boolean {
    return this.#options.isInit
  }

  get state(): ContainerState {
    return this.#state
  }

  get lastState(): ContainerState | undefined {
    return this.#lastState
  }

  get restartCount(): number {
    return this.#restartCount
  }

  get isReady(): boolean {
    return this.#isReady
  }

  /** Running, and its startup probe (if any) has passed. */
  get isStarted(): boolean {
    return this.#isStarted
  }

  /** Ended for good: by its policy it will not be started again. */
  get isFinished(): boolean {
    return this.#isFinished
  }

  /** Resolves when the container has ended for good. */
  get ended(): Promise<void> {
    return this.#ended.promise
  }

  record(): ContainerRecord {
    const pid = this.#child?.pid
    return {
      name: this.spec.name,
      isInit: this.isInit,
      restartCount: this.#restartCount,
      process: pid === undefined ? undefined : processRecord(pid),
      cgroup: this.#cgroup,
      environment: this.#environment,
      ...this.#options.user,
    }
  }

  /** Starts the container; failures to start are states, not exceptions. */
  async start(): Promise<void> {
    this.#retryTimer = undefined
    if (this.#isStopping) return
    const inputs = await this.#options.prepare()
    if (this.#isStopping) return
    if (!inputs.ok) {
      if (this.#state.kind !== 'waiting' || this.#state.message !== inputs.error) {
        this.#options.onEvent('Warning', 'Failed', `Error: ${inputs.error}`)
      }
      this.#setState({
        kind: 'waiting',
        reason: 'CreateContainerConfigError',
        message: inputs.error,
      })
      this.#retryTimer = setTimeout(() => void this.start(), PREPARE_RETRY_MS)
      return
    }
    try {
      await this.#spawn(inputs.value)
    } catch (error) {
      this.#finish(128, undefined, 'StartError', errorMessage(error), new Date())
    }
  }

  /**
   * Ends the container: preStop hook, SIGTERM, and SIGKILL to all of its cgroup when the grace is over. Until its
   * process ends, readiness follows its probe as before: only startup and liveness are not asked any more.
   */
  async stop(graceMs: number): Promise<void> {
    this.#isStopping = true
    clearTimeout(this.#retryTimer)
    this.#retryTimer = undefined
    this.#healthProbe?.stop()
    const child = this.#child
    if (child === undefined) return
    // A startup probe that is cut short counts as passed, as with Kubernetes.
    if (this.#state.kind === 'running' && !this.#isStarted) this.#started()
    const deadline = Date.now() + graceMs
    const exited = Promise.withResolvers<void>()
    child.once('exit', () => exited.resolve())
    if (this.#child === undefined) exited.resolve()
    if (graceMs > 0) {
      const hook = this.spec.lifecycle?.preStop
      if (hook !== undefined) {
        // A deletion by force ends the container in the middle of its hook.
        await Promise.race([this.#hook('PreStop', hook, graceMs), exited.promise])
      }
      if (this.#child !== undefined) child.kill('SIGTERM')
    }
    const timer = setTimeout(() => this.#killAll(), Math.max(0, deadline - Date.now()))
    await exited.promise
    clearTimeout(timer)
  }

  async #spawn(inputs: StartInputs): Promise<void> {
    const { context, podUid, user } = this.#options
    const directory = join(podDirectory(context.lab, podUid), 'containers', this.spec.name)
    const rootDirectory = join(directory, 'root')
    mkdirSync(rootDirectory, { recursive: true })
    mkdirSync(this.#cgroup, { recursive: true })
    const plan: StartPlan = { ...inputs, ...user, rootDirectory, cgroup: this.#cgroup }
    const scriptFile = join(directory, 'start.sh')
    // Its words may hold Secrets: $(NAME) is expanded by now.
    await writeFile(scriptFile, rootScript(plan), { mode: SECRET_FILE_MODE })
    if (this.#isStopping) return
    const logFile = containerLog(context.lab, podUid, this.spec.name, this.#restartCount)
    mkdirSync(dirname(logFile), { recursive: true })
    const log = openSync(logFile, 'a')
    const child = spawn('/bin/sh', ['-euc', enterScript(plan, scriptFile)], {
      env: { ...inputs.environment },
      stdio: ['ignore', log, 'pipe'],
      detached: true, // a process group of its own: a signal to the kubelet's group must not reach it
    })
    closeSync(log)
    this.#child = child
    this.#environment = inputs.environment
    const startedAt = new Date()
    this.#startedAt = startedAt
    let setupError = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (setupError += text))
    // The pipe ends when the command takes the shell's place: only then does the container run.
    child.stderr?.on('end', () => {
      if (child.exitCode === null && child.signalCode === null) void this.#running(child, startedAt)
    })
    child.on('error', (error) => {
      this.#finish(128, undefined, 'StartError', error.message, startedAt)
    })
    child.on('exit', (code, signal) => {
      const message = setupError.trim()
      const reason = code === 0 ? 'Completed' : message === '' ? 'Error' : 'StartError'
      this.#finish(code ?? 128, signal ?? undefined, reason, message, startedAt)
    })
  }

  async #running(child: ChildProcess, startedAt: Date): Promise<void> {
    if (this.#child !== child || this.#isStopping) return
    const { startupProbe, lifecycle } = this.spec
    this.#setState({ kind: 'running', startedAt: startedAt.toISOString() })
    this.#options.onEvent('Normal', 'Started', `Started container ${this.spec.name}`)
    if (lifecycle?.postStart !== undefined) {
      const failure = await this.#hook('PostStart', lifecycle.postStart, HOOK_TIMEOUT_MS)
      if (failure !== undefined) {
        this.#options.onEvent('Warning', 'FailedPostStartHook', failure)
        this.#killAll()
        return
      }
    }
    // Its end may have begun in its hook, and with it the rest of this.
    if (this.#child !== child || this.#isStarted) return
    if (startupProbe === undefined) this.#started()
    else this.#watchProbe('Startup', startupProbe, () => this.#started())
  }

  #started(): void {
    this.#stopProbes()
    this.#isStarted = true
    const { readinessProbe, livenessProbe } = this.spec
    if (readinessProbe === undefined) this.#isReady = true
    else {
      const onVerdict = (outcome: ProbeOutcome): void => {
        this.#isReady = outcome.passed
        if (!outcome.passed) {
          const text = `Readiness probe failed: ${outcome.reason}`
          this.#options.onEvent('Warning', 'Unhealthy', text)
        }
        this.#options.onChange()
      }
      this.#readinessProbe = new ProbeLoop(readinessProbe, this.#target, onVerdict, {
        eager: true,
        startedAt: this.#startedAt,
      })
    }
    if (livenessProbe !== undefined && !this.#isStopping) {
      this.#watchProbe('Liveness', livenessProbe, () => undefined)
    }
    this.#options.onChange()
  }

  /** A failed startup or liveness probe ends the container; its policy may start it again. */
  #watchProbe(kind: 'Startup' | 'Liveness', probe: Probe, onPass: () => void): void {
    this.#healthProbe = new ProbeLoop(
      probe,
      this.#target,
      (outcome) => {
        if (outcome.passed) {
          onPass()
          return
        }
        const { name } = this.spec
        this.#options.onEvent('Warning', 'Unhealthy', `${kind} probe failed: ${outcome.reason}`)
        this.#options.onEvent(
          'Normal',
          'Killing',
          `Container ${name} failed ${kind.toLowerCase()} probe, will be restarted`,
        )
        void this.#restartUnhealthy(probe)
      },
      { eager: kind === 'Startup', startedAt: this.#startedAt },
    )
  }

  async #restartUnhealthy(probe: Probe): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    this.#stopProbes()
    const graceSeconds = probe.terminationGracePeriodSeconds ?? UNHEALTHY_GRACE_SECONDS
    child.kill('SIGTERM')
    const timer = setTimeout(() => this.#killAll(), graceSeconds * 1000)
    child.once('exit', () => clearTimeout(timer))
  }

  #finish(
    exitCode: number,
    signal: NodeJS.Signals | undefined,
    reason: string,
    message: string,
    startedAt: Date,
  ): void {
    if (this.#child === undefined && this.#state.kind === 'terminated') return
    this.#child = undefined
    this.#stopProbes()
    this.#isReady = false
    this.#isStarted = false
    // As the end of pid 1 ends a container: nothing of it lives on.
    this.#killAll()
    const finishedAt = new Date()
    const signalNumber = signal === undefined ? 0 : (constants.signals[signal] ?? 0)
    const code = signal === undefined ? exitCode : 128 + signalNumber
    const terminated: ContainerState = {
      kind: 'terminated',
      exitCode: code,
      signal,
      reason: code === 0 ? 'Completed' : reason,
      message: message === '' ? this.#lastLogLine(code) : message,
      startedAt: startedAt.toISOString(),
      finishedAt: finishedAt.toISOString(),
    }
    const wantsRestart =
      !this.#isStopping &&
      (this.#options.restartPolicy === 'Always' ||
        (this.#options.restartPolicy === 'OnFailure' && code !== 0))
    if (!wantsRestart) {
      this.#isFinished = true
      this.#setState(terminated)
      this.#ended.resolve()
      return
    }
    const ranMs = finishedAt.getTime() - startedAt.getTime()
    this.#failuresInRow = ranMs >= GOOD_RUN_MS ? 0 : this.#failuresInRow
    const backoffMs =
      this.#failuresInRow === 0
        ? 0
        : Math.min(FIRST_BACKOFF_MS * 2 ** (this.#failuresInRow - 1), LONGEST_BACKOFF_MS)
    this.#failuresInRow += 1
    this.#lastState = terminated
    this.#restartCount += 1
    this.#retryTimer = setTimeout(() => void this.start(), backoffMs)
    if (backoffMs === 0) {
      this.#setState(terminated)
      return
    }
    const text = `back-off ${backoffMs / 1000}s restarting failed container ${this.spec.name}`
    this.#options.onEvent('Warning', 'BackOff', text)
    this.#setState({ kind: 'waiting', reason: 'CrashLoopBackOff', message: text })
  }

  /** A container that failed without a word from the lab is explained by its own last line. */
  #lastLogLine(code: number): string {
    if (code === 0) return ''
    const { context, podUid } = this.#options
    const path = containerLog(context.lab, podUid, this.spec.name, this.#restartCount)
    try {
      return readFileSync(path, 'utf8').slice(-LONGEST_TAIL).trimEnd().split('\n').at(-1) ?? ''
    } catch {
      return '' // never got as far as having a log
    }
  }

  #setState(state: ContainerState): void {
    this.#state = state
    this.#options.onChange()
  }

  #stopProbes(): void {
    this.#healthProbe?.stop()
    this.#readinessProbe?.stop()
    this.#healthProbe = undefined
    this.#readinessProbe = undefined
  }

  #killAll(): void {
    try {
      writeFileSync(join(this.#cgroup, 'cgroup.kill'), '1')
    } catch (error) {
      this.#options.context.logger.debug({ error: errorMessage(error) }, 'nothing left to kill')
    }
  }

  /** Runs a lifecycle hook; gives what went wrong, if anything did. */
  async #hook(
    kind: string,
    hook: NonNullable<NonNullable<Container['lifecycle']>['postStart']>,
    timeoutMs: number,
  ): Promise<string | undefined> {
    try {
      if (hook.sleep !== undefined) {
        const { promise, resolve } = Promise.withResolvers<void>()
        setTimeout(resolve, Math.min(hook.sleep.seconds * 1000, timeoutMs))
        await promise
        return undefined
      }
      if (hook.httpGet !== undefined) {
        const seconds = timeoutMs / 1000
        const outcome = await runProbe(
          { httpGet: hook.httpGet, timeoutSeconds: seconds },
          this.#target,
        )
        return outcome.passed ? undefined : `${kind} hook failed: ${outcome.reason}`
      }
      const { code, output } = await this.#exec(hook.exec?.command ?? [], timeoutMs)
      return code === 0
        ? undefined
        : `${kind} hook failed: exit code ${String(code)}: ${output.trim()}`
    } catch (error) {
      return `${kind} hook failed: ${errorMessage(error)}`
    }
  }

  async #exec(
    command: readonly string[],
    timeoutMs: number,
  ): Promise<{ readonly code: number | null; readonly output: string }> {
    const found = containerCommand(this.record(), command)
    if (found === undefined) return { code: null, output: 'the container does not run' }
    const { argv, environment: env } = found
    const { code, stdout, stderr } = await tryCommand(argv, { timeoutMs, env })
    return { code, output: stdout + stderr }
  }
}
