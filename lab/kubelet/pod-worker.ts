// SPDX-License-Identifier: Apache-2.0
// The life of one pod on a node, from its first sight to its removal from the API: network, volumes, init
// containers in order, containers, status, and the end with grace. One worker per pod; what happens in it
// happens in one sequence, except for containers, which run side by side.

import { fileURLToPath } from 'node:url'
import { realpathSync, statSync } from 'node:fs'
import { mkdir, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { V1VolumeMount } from '@kubernetes/client-node'
import { errorMessage } from '../../mesh/errors.ts'
import { type Pod, PODS, type Wire } from '../../mesh/kube/resources.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { netnsPath, podNetns, PRIVATE_DIRECTORY_MODE } from '../machine/layout.ts'
import { type BuiltInPlugin, type CniAttachment, type CniCall, cniAdd, cniDelete } from './cni.ts'
import { ContainerRunner, type RestartPolicy, type StartInputs } from './container.ts'
import type { KubeletContext } from './context.ts'
import { commandLine, type Container, type PodFields, resolveEnvironment } from './environment.ts'
import { hostMounts } from './host-mounts.ts'
import { createPodNetns, deletePodNetns } from '../network/pod-link.ts'
import { hostsFile, resolvConf } from './pod-files.ts'
import { podDirectory, writePodRecord } from './pod-record.ts'
import { containerUser } from './pod-user.ts'
import { podStatus } from './pod-status.ts'
import { refusal } from './refusal.ts'
import { withServiceAccountVolume } from './service-account.ts'
import type { Mount } from './start-script.ts'
import { PodVolumes } from './volumes.ts'

/** Working directory of the image `host`, as an image names one: this repository, so that samples run by relative path. */
const IMAGE_WORKING_DIRECTORY = fileURLToPath(new URL('../..', import.meta.url))

/** Networks and volumes that cannot be made are tried again after this, then twice this, up to the longest. */
const FIRST_RETRY_MS = 500
const LONGEST_RETRY_MS = 16_000
const DEFAULT_GRACE_SECONDS = 30
/** What Kubernetes gives a sidecar when the containers it serves have used the grace up. */
const LEAST_SIDECAR_GRACE_MS = 2000
/** Status changes that come together are written together. */
const STATUS_DELAY_MS = 5
const STATUS_RETRY_MS = 500
/** Volumes with tokens are looked at this often; ConfigMaps and Secrets are watched. */
const VOLUME_REFRESH_MS = 30_000

export class PodWorker {
  readonly #context: KubeletContext
  readonly #network: BuiltInPlugin
  readonly #startTime = new Date().toISOString()
  readonly #uid: string
  readonly #volumes: PodVolumes
  readonly #cgroup: string
  readonly #wake = new AbortController()
  readonly #stopWatching: () => void
  #pod: Pod
  #attachment: CniAttachment | undefined
  #podIps: readonly string[] = []
  #hasSandbox = false
  #initContainers: readonly ContainerRunner[] = []
  #containers: readonly ContainerRunner[] = []
  #isEnding = false
  #isGone = false
  #statusTimer: NodeJS.Timeout | undefined
  #refreshTimer: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()
  #life: Promise<void> = Promise.resolve()
  #lastStatus = ''

  constructor(context: KubeletContext, network: BuiltInPlugin, pod: Pod) {
    this.#context = context
    this.#network = network
    this.#pod = withServiceAccountVolume(pod)
    this.#uid = pod.metadata?.uid ?? ''
    this.#cgroup = join(context.node.podsCgroup, `pod${this.#uid}`)
    const directory = join(podDirectory(context.lab, this.#uid), 'volumes')
    this.#volumes = new PodVolumes(directory, context.api, context.objects)
    this.#stopWatching = context.objects.onChange(() => void this.#refreshVolumes())
    this.#life = this.#run().catch((error: unknown) => {
      this.#context.logger.error(
        { pod: this.#uid, error: errorMessage(error) },
        'pod worker failed',
      )
    })
  }

  /** Conditions without which the pod is not ready. */
  get #gates(): readonly string[] {
    return (this.#pod.spec?.readinessGates ?? []).map((gate) => gate.conditionType)
  }

  get pod(): Pod {
    return this.#pod
  }

  /** Takes a newer version of the pod; a deletion timestamp begins the end. */
  update(pod: Pod): void {
    this.#pod = withServiceAccountVolume(pod)
    // Somebody may have opened or closed one.
    if (this.#gates.length > 0) this.#changed()
    if (pod.metadata?.deletionTimestamp === undefined) return
    this.end(this.#graceMs()).catch((error: unknown) => {
      this.#context.logger.error(
        { pod: this.#uid, error: errorMessage(error) },
        'the pod could not be removed',
      )
    })
  }

  /** Stops everything of the pod and removes it from the API. Resolves when nothing is left of it. */
  async end(graceMs: number): Promise<void> {
    if (this.#isEnding) {
      // A second deletion may shorten the grace (kubectl delete --now after kubectl delete).
      if (graceMs === 0) await this.#stopContainers(0)
      return
    }
    this.#isEnding = true
    this.#wake.abort()
    this.#changed()
    await this.#stopContainers(graceMs)
    await this.#life
    await this.#tearDown()
    await this.#removeFromApi()
  }

  async #run(): Promise<void> {
    const refused = refusal(this.#pod)
    const { spec } = this.#pod
    this.#containers = (spec?.containers ?? []).map((each) => this.#runner(each, false))
    this.#initContainers = (spec?.initContainers ?? []).map((each) => this.#runner(each, true))
    if (refused !== undefined) {
      this.#context.events(this.#pod, 'Warning', 'Failed', refused.message)
      this.#refuse(refused)
      return
    }
    if (!(await this.#untilDone('FailedCreatePodSandBox', () => this.#setUpNetwork()))) return
    this.#hasSandbox = true
    this.#changed()
    if (!(await this.#untilDone('FailedMount', () => this.#setUpVolumes()))) return
    this.#refreshTimer = setInterval(() => void this.#refreshVolumes(), VOLUME_REFRESH_MS)
    for (const runner of this.#initContainers) {
      if (this.#isEnding || !(await this.#runInit(runner))) return
    }
    if (this.#isEnding) return
    await Promise.all(this.#containers.map((runner) => runner.start()))
  }

  /** Runs an init container to its good end, or (a sidecar) until it has started. */
  async #runInit(runner: ContainerRunner): Promise<boolean> {
    await runner.start()
    if (runner.spec.restartPolicy === 'Always') {
      while (!runner.isStarted && !this.#isEnding) await this.#pause(STATUS_RETRY_MS / 10)
      return !this.#isEnding
    }
    const stopped = Promise.withResolvers<void>()
    this.#wake.signal.addEventListener('abort', () => stopped.resolve(), { once: true })
    await Promise.race([runner.ended, stopped.promise])
    return runner.state.kind === 'terminated' && runner.state.exitCode === 0
  }

  #runner(spec: Container, isInit: boolean): ContainerRunner {
    const policy = this.#restartPolicy()
    const isSidecar = isInit && spec.restartPolicy === 'Always'
    return new ContainerRunner({
      context: this.#context,
      podUid: this.#uid,
      spec,
      isInit,
      restartPolicy: isSidecar ? 'Always' : isInit && policy === 'Always' ? 'OnFailure' : policy,
      user: containerUser(this.#pod, spec),
      podIp: () => this.#podIps[0] ?? '',
      prepare: () => this.#prepare(spec),
      onChange: () => this.#changed(),
      onEvent: (type, reason, message) => this.#context.events(this.#pod, type, reason, message),
    })
  }

  async #prepare(spec: Container): Promise<Result<StartInputs, string>> {
    const fields = this.#fields()
    const environment = await resolveEnvironment(spec, fields, this.#context.objects)
    if (!environment.ok) return environment
    const volumes = await this.#volumes.sync(fields)
    if (!volumes.ok) return volumes
    const mounts: Mount[] = []
    for (const volumeMount of spec.volumeMounts ?? []) {
      const mount = await this.#mount(volumeMount)
      if (!mount.ok) return mount
      mounts.push(mount.value)
    }
    return ok({
      netns: this.#netnsPath(),
      hostname: fields.hostname,
      hostMounts: await hostMounts(),
      overlaidFiles: new Map([
        ['/etc/hosts', hostsFile(this.#pod, this.#podIps, fields.hostname)],
        ['/etc/resolv.conf', resolvConf(this.#pod, this.#podIps, this.#context.addresses)],
      ]),
      mounts,
      workingDirectory: spec.workingDir ?? IMAGE_WORKING_DIRECTORY,
      command: commandLine(spec, environment.value),
      environment: environment.value,
    })
  }

  async #mount(volumeMount: Wire<V1VolumeMount>): Promise<Result<Mount, string>> {
    const volume = this.#pod.spec?.volumes?.find((each) => each.name === volumeMount.name)
    if (volume === undefined) {
      return err(`volumeMounts name "${volumeMount.name}" is not among the pod's volumes`)
    }
    const base = this.#volumes.pathOf(volume)
    const source = volumeMount.subPath === undefined ? base : join(base, volumeMount.subPath)
    if (volumeMount.subPath !== undefined && volume.emptyDir !== undefined) {
      await mkdir(source, { recursive: true })
    }
    const found = statSync(source, { throwIfNoEntry: false })
    if (found === undefined)
      return err(`volume "${volume.name}" has no "${volumeMount.subPath ?? ''}"`)
    return ok({
      source: realpathSync(source),
      target: volumeMount.mountPath.replace(/\/+$/, ''),
      isReadOnly: volumeMount.readOnly === true,
      isFile: !found.isDirectory(),
    })
  }

  async #setUpNetwork(): Promise<Result<void, string>> {
    const directory = podDirectory(this.#context.lab, this.#uid)
    await mkdir(directory, { recursive: true, mode: PRIVATE_DIRECTORY_MODE })
    await mkdir(join(directory, 'logs'), { recursive: true })
    // Before the sandbox, as a kubelet makes it: CNI plugins look at it.
    await mkdir(this.#podLogs(), { recursive: true })
    await mkdir(this.#cgroup, { recursive: true })
    const { plan, node } = this.#context
    if (this.#isHostNetwork()) {
      this.#podIps = [plan.ip4, plan.ip6]
      return ok(undefined)
    }
    const netns = podNetns(this.#context.lab, this.#uid)
    await deletePodNetns(netns)
    await createPodNetns(netns)
    try {
      const directories = { netDir: node.cniNetDir, binDir: node.cniBinDir }
      this.#attachment = await cniAdd(directories, this.#cniCall(), this.#network)
    } catch (error) {
      await deletePodNetns(netns)
      return err(`Failed to create pod sandbox: ${errorMessage(error)}`)
    }
    const ips = this.#attachment.result.ips ?? []
    this.#podIps = ips.map(({ address }) => address.split('/')[0] ?? address)
    return ok(undefined)
  }

  async #setUpVolumes(): Promise<Result<void, string>> {
    return await this.#volumes.sync(this.#fields())
  }

  async #refreshVolumes(): Promise<void> {
    if (!this.#hasSandbox || this.#isEnding) return
    const result = await this.#volumes
      .sync(this.#fields())
      .catch((error: unknown) => err(errorMessage(error)))
    if (!result.ok)
      this.#context.logger.debug({ pod: this.#uid, reason: result.error }, 'volume is stale')
  }

  /** Tries until it works or the pod ends; each failure is an event. Gives whether it worked. */
  async #untilDone(reason: string, attempt: () => Promise<Result<void, string>>): Promise<boolean> {
    for (let delayMs = FIRST_RETRY_MS; !this.#isEnding; ) {
      const result = await attempt().catch((error: unknown) => err(errorMessage(error)))
      if (result.ok) return true
      this.#context.events(this.#pod, 'Warning', reason, result.error)
      this.#context.logger.warn({ pod: this.#pod.metadata?.name, reason: result.error }, reason)
      await this.#pause(delayMs)
      delayMs = Math.min(delayMs * 2, LONGEST_RETRY_MS)
    }
    return false
  }

  async #pause(delayMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, delayMs)
    const onAbort = (): void => resolve()
    this.#wake.signal.addEventListener('abort', onAbort, { once: true })
    // What was missing may just have been made.
    const stopListening = this.#context.objects.onChange(onAbort)
    await promise
    stopListening()
    clearTimeout(timer)
    this.#wake.signal.removeEventListener('abort', onAbort)
  }

  async #stopContainers(graceMs: number): Promise<void> {
    const deadline = Date.now() + graceMs
    await Promise.all(this.#containers.map((runner) => runner.stop(graceMs)))
    // Sidecars outlive the containers they serve, within the pod's one grace.
    const leastMs = Math.min(graceMs, LEAST_SIDECAR_GRACE_MS)
    for (const runner of this.#initContainers.toReversed()) {
      await runner.stop(Math.max(leastMs, deadline - Date.now()))
    }
  }

  async #tearDown(): Promise<void> {
    this.#stopWatching()
    clearInterval(this.#refreshTimer)
    if (this.#attachment !== undefined) {
      const call = this.#cniCall()
      const binDir = this.#context.node.cniBinDir
      const failures = await cniDelete(binDir, call, this.#attachment, this.#network)
      for (const failure of failures)
        this.#context.logger.warn({ pod: this.#uid, failure }, 'CNI DEL')
    }
    if (!this.#isHostNetwork()) await deletePodNetns(podNetns(this.#context.lab, this.#uid))
    for (const runner of [...this.#containers, ...this.#initContainers]) {
      await removeCgroup(join(this.#cgroup, runner.spec.name))
    }
    await removeCgroup(this.#cgroup)
    // From here on nothing is written: a record that came back into the directory would keep it, and with it the pod.
    this.#isGone = true
    clearTimeout(this.#statusTimer)
    await this.#writing
    await this.#volumes.settled()
    await rm(podDirectory(this.#context.lab, this.#uid), { recursive: true, force: true })
    await rm(this.#podLogs(), { recursive: true, force: true })
  }

  #podLogs(): string {
    const { namespace = 'default', name = '' } = this.#pod.metadata ?? {}
    return join(this.#context.node.podLogsDir, `${namespace}_${name}_${this.#uid}`)
  }

  async #removeFromApi(): Promise<void> {
    const { namespace = 'default', name = '' } = this.#pod.metadata ?? {}
    const options = { gracePeriodSeconds: 0, uid: this.#uid }
    for (;;) {
      const result = await this.#context.api.delete(PODS, { namespace, name }, options)
      const isDone = result.ok || ['notFound', 'conflict'].includes(result.error.kind)
      if (isDone) return
      this.#context.logger.warn({ reason: result.error.message }, 'pod could not be removed')
      const { promise, resolve } = Promise.withResolvers<void>()
      setTimeout(resolve, STATUS_RETRY_MS)
      await promise
    }
  }

  #refuse(refused: { readonly reason: string; readonly message: string }): void {
    const waiting = { kind: 'waiting' as const, reason: refused.reason, message: refused.message }
    this.#containers = []
    this.#refused = (this.#pod.spec?.containers ?? []).map((spec) => ({
      spec,
      state: waiting,
      lastState: undefined,
      restartCount: 0,
      isReady: false,
      isStarted: false,
      isFinished: false,
    }))
    this.#changed()
  }

  #refused: Parameters<typeof podStatus>[0]['containers'] = []

  #changed(): void {
    if (this.#isGone) return
    this.#statusTimer ??= setTimeout(() => {
      this.#statusTimer = undefined
      // The record at once: who asks the lab for a pod's processes need not wait for an API server that hangs.
      this.#writing = Promise.all([this.#writing, Promise.try(() => this.#writeRecord())])
        .then(() => this.#writeStatus())
        .catch((error: unknown) => {
          // One that failed must not keep the next from being written, nor the pod from ending.
          this.#context.logger.error(
            { pod: this.#uid, error: errorMessage(error) },
            'status was not written',
          )
        })
    }, STATUS_DELAY_MS)
  }

  async #writeStatus(): Promise<void> {
    if (this.#isGone) return
    const { namespace = 'default', name = '', resourceVersion } = this.#pod.metadata ?? {}
    const status = podStatus({
      restartPolicy: this.#restartPolicy(),
      podUid: this.#uid,
      startTime: this.#startTime,
      hostIps: [this.#context.plan.ip4, this.#context.plan.ip6],
      podIps: this.#podIps,
      initContainers: this.#initContainers,
      containers: this.#refused.length > 0 ? this.#refused : this.#containers,
      hasSandbox: this.#hasSandbox,
      former: this.#pod.status?.conditions ?? [],
      readinessGates: this.#gates,
      now: new Date().toISOString(),
    })
    const text = JSON.stringify(status)
    if (text === this.#lastStatus) return
    const result = await this.#context.api.patch(
      PODS,
      { namespace, name },
      // The conditions are written as a whole: what others have said meanwhile, as a gate is opened, must be known.
      { metadata: { uid: this.#uid, ...(this.#gates.length > 0 && { resourceVersion }) }, status },
      { subresource: 'status', type: 'merge' },
    )
    if (result.ok) {
      this.#lastStatus = text
      this.#pod = { ...this.#pod, status: result.value.status ?? {} }
      return
    }
    // Deleted by force, replaced by another pod of the same name, or changed: the watch will tell.
    if (['notFound', 'conflict', 'invalid'].includes(result.error.kind)) {
      this.#context.logger.debug({ reason: result.error.message }, 'status was not written')
      return
    }
    this.#context.logger.warn({ reason: result.error.message }, 'status was not written')
    setTimeout(() => this.#changed(), STATUS_RETRY_MS)
  }

  #writeRecord(): void {
    if (this.#isGone || !this.#hasSandbox) return
    const { namespace = 'default', name = '' } = this.#pod.metadata ?? {}
    writePodRecord(this.#context.lab, {
      namespace,
      name,
      uid: this.#uid,
      node: this.#context.node.name,
      containers: [...this.#containers, ...this.#initContainers].map((each) => each.record()),
    })
  }

  #cniCall(): CniCall {
    const { namespace = 'default', name = '' } = this.#pod.metadata ?? {}
    return {
      containerId: this.#uid.replaceAll('-', ''),
      netns: netnsPath(podNetns(this.#context.lab, this.#uid)),
      ifname: 'eth0',
      podNamespace: namespace,
      podName: name,
      podUid: this.#uid,
    }
  }

  #fields(): PodFields {
    const { plan } = this.#context
    const name = this.#pod.metadata?.name ?? ''
    return {
      pod: this.#pod,
      podIps: this.#podIps,
      hostIps: [plan.ip4, plan.ip6],
      kubernetesServiceIp: this.#context.addresses.kubernetesServiceIp,
      // 63 is the longest that a host name may be.
      hostname: this.#isHostNetwork()
        ? plan.name
        : (this.#pod.spec?.hostname ?? name.slice(0, 63).replace(/[.-]+$/, '')),
    }
  }

  #netnsPath(): string {
    const { node, lab } = this.#context
    return netnsPath(this.#isHostNetwork() ? node.netns : podNetns(lab, this.#uid))
  }

  #isHostNetwork(): boolean {
    return this.#pod.spec?.hostNetwork === true
  }

  #restartPolicy(): RestartPolicy {
    const policy = this.#pod.spec?.restartPolicy
    return policy === 'Never' || policy === 'OnFailure' ? policy : 'Always'
  }

  #graceMs(): number {
    const { metadata, spec } = this.#pod
    const seconds =
      metadata?.deletionGracePeriodSeconds ??
      spec?.terminationGracePeriodSeconds ??
      DEFAULT_GRACE_SECONDS
    return seconds * 1000
  }
}

/** A cgroup's directory goes when its last process is reaped, which may be a moment after its death. */
async function removeCgroup(path: string): Promise<void> {
  for (let attempt = 0; attempt < CGROUP_ATTEMPTS; attempt += 1) {
    const code = await rmdir(path).then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error.code,
    )
    if (code !== 'EBUSY') return
    const { promise, resolve } = Promise.withResolvers<void>()
    setTimeout(resolve, CGROUP_RETRY_MS)
    await promise
  }
}

const CGROUP_ATTEMPTS = 100
const CGROUP_RETRY_MS = 10
