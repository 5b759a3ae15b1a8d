// SPDX-License-Identifier: Apache-2.0
// A pod's status out of its containers' states: pure. What Kubernetes' own kubelet would write, as far as users
// and controllers look at it.

import type {
  V1ContainerState,
  V1ContainerStatus,
  V1PodCondition,
  V1PodStatus,
} from '@kubernetes/client-node'
import type { Wire } from '../../mesh/kube/resources.ts'
import type { ContainerState } from './container.ts'

export type PodStatus = Wire<V1PodStatus>
type Condition = Wire<V1PodCondition>

/** What the status needs of a container. */
export interface ContainerView {
  readonly spec: {
    readonly name: string
    readonly image?: string | undefined
    readonly restartPolicy?: string | undefined
  }
  readonly state: ContainerState
  readonly lastState: ContainerState | undefined
  readonly restartCount: number
  readonly isReady: boolean
  readonly isStarted: boolean
  readonly isFinished: boolean
}

export interface StatusInput {
  readonly restartPolicy: 'Always' | 'OnFailure' | 'Never'
  readonly podUid: string
  readonly startTime: string
  readonly hostIps: readonly string[]
  readonly podIps: readonly string[]
  readonly initContainers: readonly ContainerView[]
  readonly containers: readonly ContainerView[]
  /** The network is set up. */
  readonly hasSandbox: boolean
  /** Conditions that are there now: their transition times, and those that are not the kubelet's to write. */
  readonly former: readonly Condition[]
  readonly readinessGates: readonly string[]
  readonly now: string
}

/**
 * Builds the whole status. A pod that is being deleted is as ready as its containers are: that it ends is said by its
 * deletionTimestamp alone, and an endpoint may so be serving and terminating.
 */
export function podStatus(input: StatusInput): PodStatus {
  const phase = phaseOf(input)
  const isInitialized = input.initContainers.every(
    (each) => (each.state.kind === 'terminated' && each.state.exitCode === 0) || each.isStarted,
  )
  const sidecars = input.initContainers.filter((each) => each.spec.restartPolicy === 'Always')
  const lasting = [...sidecars, ...input.containers]
  const unready = lasting.filter((each) => !each.isReady).map((each) => each.spec.name)
  const containersReady = unready.length === 0 && phase === 'Running'
  const gatesOpen = input.readinessGates.every((gate) =>
    input.former.some((condition) => condition.type === gate && condition.status === 'True'),
  )
  const reason = phase === 'Succeeded' ? 'PodCompleted' : 'ContainersNotReady'
  const message = `containers with unready status: [${unready.join(' ')}]`
  const why = { reason, message }
  const isReady = containersReady && gatesOpen
  const gateReason = { reason: 'ReadinessGatesNotReady', message: 'a readiness gate is not True' }
  const own: readonly Condition[] = [
    condition('PodReadyToStartContainers', input.hasSandbox, input),
    condition('Initialized', isInitialized, input, {
      reason: 'ContainersNotInitialized',
      message: 'init containers have not completed',
    }),
    condition('Ready', isReady, input, containersReady ? gateReason : why),
    condition('ContainersReady', containersReady, input, why),
  ]
  const ownTypes = new Set(own.map((each) => each.type))
  return {
    phase,
    conditions: [...own, ...input.former.filter((each) => !ownTypes.has(each.type))],
    startTime: input.startTime,
    ...(input.hostIps[0] === undefined ? {} : { hostIP: input.hostIps[0] }),
    hostIPs: input.hostIps.map((ip) => ({ ip })),
    ...(input.podIps[0] === undefined ? {} : { podIP: input.podIps[0] }),
    ...(input.podIps.length === 0 ? {} : { podIPs: input.podIps.map((ip) => ({ ip })) }),
    ...(input.initContainers.length === 0
      ? {}
      : {
          initContainerStatuses: input.initContainers.map((each) =>
            containerStatus(
              each,
              input,
              each.isReady || (each.state.kind === 'terminated' && each.state.exitCode === 0),
            ),
          ),
        }),
    containerStatuses: input.containers.map((each) => containerStatus(each, input, each.isReady)),
    qosClass: 'BestEffort',
  }
}

function phaseOf(input: StatusInput): string {
  const { containers, initContainers, restartPolicy } = input
  const failedInit = initContainers.some(
    (each) => each.isFinished && each.state.kind === 'terminated' && each.state.exitCode !== 0,
  )
  if (failedInit && restartPolicy === 'Never') return 'Failed'
  const hasBegun = containers.some(
    (each) => each.state.kind !== 'waiting' || each.lastState !== undefined,
  )
  if (!hasBegun) return 'Pending'
  if (!containers.every((each) => each.isFinished)) return 'Running'
  const allGood = containers.every(
    (each) => each.state.kind === 'terminated' && each.state.exitCode === 0,
  )
  return allGood ? 'Succeeded' : 'Failed'
}

function condition(
  type: string,
  isTrue: boolean,
  input: StatusInput,
  why?: { readonly reason: string; readonly message: string },
): Condition {
  const status = isTrue ? 'True' : 'False'
  const before = input.former.find((each) => each.type === type)
  const isSame = before?.status === status && before.lastTransitionTime !== undefined
  return {
    type,
    status,
    lastTransitionTime: isSame ? (before.lastTransitionTime ?? input.now) : input.now,
    ...(isTrue || why === undefined ? {} : why),
  }
}

function containerStatus(
  view: ContainerView,
  input: StatusInput,
  isReady: boolean,
): Wire<V1ContainerStatus> {
  const id = `ambit-lab://${input.podUid}/${view.spec.name}/${view.restartCount}`
  const image = view.spec.image ?? ''
  return {
    name: view.spec.name,
    image,
    imageID: image,
    ready: isReady,
    started: view.isStarted,
    restartCount: view.restartCount,
    state: containerState(view.state, id),
    ...(view.lastState === undefined
      ? {}
      : { lastState: containerState(view.lastState, `${id}/previous`) }),
    ...(view.state.kind === 'waiting' ? {} : { containerID: id }),
  }
}

function containerState(state: ContainerState, containerID: string): Wire<V1ContainerState> {
  switch (state.kind) {
    case 'waiting':
      return {
        waiting: {
          reason: state.reason,
          ...(state.message === '' ? {} : { message: state.message }),
        },
      }
    case 'running':
      return { running: { startedAt: state.startedAt } }
    case 'terminated':
      return {
        terminated: {
          exitCode: state.exitCode,
          reason: state.reason,
          ...(state.message === '' ? {} : { message: state.message }),
          startedAt: state.startedAt,
          finishedAt: state.finishedAt,
          containerID,
        },
      }
  }
}
