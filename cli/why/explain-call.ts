// SPDX-License-Identifier: Apache-2.0
// What would happen to a connection, step by step, by the data plane's own functions over the agents' own state. Pure.

import { decideOutbound, type OutboundDecision } from '../../agent/proxy/decision/outbound.ts'
import { trueTargets } from '../../agent/proxy/decision/true-targets.ts'
import { callerAddress, type LocalPod } from '../../agent/proxy/local-pod.ts'
import type { CopiedWaypoint } from '../../waypoint/explain-request.ts'
import { END_REASONS } from '../../mesh/telemetry/end-reason.ts'
import { formatSocketAddress, isLoopback } from '../../mesh/model/address.ts'
import type { SocketAddress, SpiffeId, Workload, WorkloadUid } from '../../mesh/model/types.ts'
import { admissionStep } from './admission-step.ts'
import { egressSteps } from './network-step.ts'
import type { Called } from './call.ts'
import type { Explanation, Step } from './steps.ts'
import { PLAIN_REQUEST, type RequestText, requestHead } from './request.ts'
import { type WaypointEnd, waypointSteps } from './waypoint-step.ts'
import type { AgentView } from './world.ts'

/** The caller, in the mesh or not. */
export interface Caller {
  readonly pod: LocalPod
  readonly standing: { readonly state: string; readonly reason?: string }
}

export interface CallWorld {
  readonly source: AgentView
  /** The agent of a node; undefined when it did not answer. */
  readonly agentOf: (node: string) => AgentView | undefined
  readonly now: Date
  /** The waypoint of that name; undefined when it was not asked. */
  readonly waypointOf?: (name: string) => CopiedWaypoint | undefined
  /** What a waypoint is asked about. */
  readonly request?: RequestText
}

/** More endpoints of a Service are counted. */
const MOST_ENDPOINTS = 16

/** Explains one connection. */
export function explainCall(world: CallWorld, caller: Caller, called: Called): Explanation {
  const { pod } = caller
  const about = { source: `${pod.namespace}/${pod.name}`, destination: called.name }
  const capture = captureStep(caller, called.address)
  if (capture.result === 'stop') return fails(about, [capture])
  if (caller.standing.state !== 'captured') return explainPlain(world, caller, called, capture)
  if (isOwn(pod, called.address))
    return {
      ...about,
      outcome: 'connects',
      security: undefined,
      securities: ['plaintext'],
      steps: [capture],
      summary: 'It never leaves the pod: the mesh has nothing to do with it.',
    }
  const ways = outboundWays(world.source, pod, called.address)
  const [first] = ways
  if (first === undefined) return fails(about, [capture])
  const service = serviceStep(first, called)
  if (first.kind === 'deny') return fails(about, [capture, ...service, denyStep(first)])
  const ends = ways.map((way) => explainWay(world, pod, way, called))
  const failing = ends.filter(({ steps }) => steps.some(({ result }) => result === 'stop'))
  const steps = [
    capture,
    ...service,
    ...endpointStep(ways),
    ...ends.flatMap(({ steps: ofEnd }, at) => (isShown(ends, at) ? ofEnd : [])),
  ]
  const outcome = outcomeOf(ends)
  const open = outcome === 'answered' ? ends : ends.filter((end) => !failing.includes(end))
  const [security] = open.map((end) => end.security)
  const securities = [...new Set(open.flatMap((end) => end.security ?? []))]
  const summary = summaryOf(outcome, security, steps)
  return { ...about, outcome, security, securities, steps, summary }
}

interface WayEnd {
  readonly steps: readonly Step[]
  readonly security: Explanation['security']
}

/** What is the same of several endpoints is said once. */
function isShown(ends: readonly WayEnd[], at: number): boolean {
  const key = (end: WayEnd | undefined): string =>
    JSON.stringify(end?.steps.map(({ step, result, object }) => [step, result, object]))
  return ends.findIndex((end) => key(end) === key(ends[at])) === at
}

function captureStep({ pod, standing }: Caller, address: SocketAddress): Step {
  const name = `${pod.namespace}/${pod.name}`
  const { state, reason = '' } = standing
  const because = reason === '' ? '' : `: ${reason}`
  switch (state) {
    case 'captured':
      return isOwn(pod, address)
        ? { step: 'capture', result: 'ok', what: `${name} calls itself, which is never captured` }
        : {
            step: 'capture',
            result: 'ok',
            what: `${name} is in the mesh: its agent takes the connection`,
          }
    case 'cutOff':
      return {
        step: 'capture',
        result: 'stop',
        what: `${name} is captured, and nobody serves it${because}`,
        change: 'see the log of its agent ("ambit logs"); it is tried again',
      }
    case 'failed':
      return {
        step: 'capture',
        result: 'note',
        what: `${name} belongs to the mesh and could not be brought in${because}`,
        change: 'see the events of the pod (kubectl describe pod)',
      }
    default:
      return {
        step: 'capture',
        result: 'note',
        what: `${name} is not in the mesh${because}: the connection leaves in plaintext, without identity`,
        change: `kubectl label namespace ${pod.namespace} istio.io/dataplane-mode=ambient`,
      }
  }
}

function isOwn({ addresses }: LocalPod, { address }: SocketAddress): boolean {
  return isLoopback(address) || addresses.includes(address)
}

/** The decision for each endpoint that may be chosen, those first that are chosen before others; one where there is no choice. */
function outboundWays(
  { mesh, localPods }: AgentView,
  source: LocalPod,
  originalDestination: SocketAddress,
): readonly OutboundDecision[] {
  const clientAddress = callerAddress(source, originalDestination) ?? originalDestination.address
  const ways: OutboundDecision[] = []
  const exclude = new Set<WorkloadUid>()
  while (ways.length < MOST_ENDPOINTS) {
    const way = decideOutbound({
      originalDestination,
      source,
      mesh,
      localPods,
      clientAddress,
      random: () => 0,
      exclude,
    })
    if (way.kind === 'deny' && ways.length > 0) break
    ways.push(way)
    if (way.service === undefined || way.workload === undefined || way.endpoint === undefined) break
    exclude.add(way.endpoint.endpoint)
    exclude.add(way.workload.uid)
  }
  return ways
}

function serviceStep({ service }: OutboundDecision, called: Called): readonly Step[] {
  const where = formatSocketAddress(called.address)
  return service === undefined
    ? [{ step: 'service', result: 'ok', what: `${where} is the address of no Service` }]
    : [
        {
          step: 'service',
          result: 'ok',
          what: `${where} leads to Service ${service.namespace}/${service.name}`,
          object: `Service ${service.namespace}/${service.name}`,
        },
      ]
}

function denyStep(way: Extract<OutboundDecision, { kind: 'deny' }>): Step {
  const { service, workload, reason, message } = way
  return {
    step: 'endpoint',
    result: 'stop',
    what: message === '' ? END_REASONS[reason].text : message,
    ...(service === undefined ? {} : { object: `Service ${service.namespace}/${service.name}` }),
    ...(workload === undefined ? {} : { object: `workload ${workload.uid}` }),
    ...(reason === 'noHealthyUpstream' && service !== undefined
      ? {
          change: `look at its endpoints: kubectl -n ${service.namespace} get endpointslices -l kubernetes.io/service-name=${service.name}`,
        }
      : {}),
    ...(reason === 'waypointUnavailable'
      ? { change: 'see "ambit waypoint status", or take the label istio.io/use-waypoint away' }
      : {}),
  }
}

function endpointStep(ways: readonly OutboundDecision[]): readonly Step[] {
  const chosen = ways.flatMap(({ workload }) => workload ?? [])
  const [first] = ways
  if (first?.kind === 'passthrough' && first.workload === undefined)
    return [
      {
        step: 'endpoint',
        result: 'note',
        what:
          first.service === undefined
            ? `${formatSocketAddress(first.target)} is not known to the mesh: the connection goes there as it is`
            : 'all endpoints are outside the mesh: the node itself leads the connection on',
      },
    ]
  const text = (workload: Workload): string =>
    `${workload.namespace}/${workload.name} on ${workload.node === '' ? 'no node' : workload.node}`
  const [only] = chosen
  if (only === undefined) return []
  if (chosen.length === 1) return [{ step: 'endpoint', result: 'ok', what: text(only) }]
  return [
    {
      step: 'endpoint',
      result: 'ok',
      what: `any of ${chosen.length === MOST_ENDPOINTS ? 'more than ' : ''}${chosen.length}, the first ones before others`,
      details: chosen.map(text),
    },
  ]
}

/** What becomes of the connection on this way. */
function explainWay(
  world: CallWorld,
  source: LocalPod,
  way: OutboundDecision,
  called: Called,
): WayEnd {
  if (way.kind === 'deny') return { steps: [denyStep(way)], security: undefined }
  const egress = egressSteps(world.source, source, way, called.address)
  if (egress.some(({ result }) => result === 'stop')) return { steps: egress, security: undefined }
  if (way.kind === 'passthrough') {
    const what = 'plaintext: what it leads to is not in the mesh'
    const tunnel: Step = { step: 'tunnel', result: 'note', what }
    return { steps: [...egress, tunnel], security: 'plaintext' }
  }
  const { workload, target } = way
  const name = workload === undefined ? '' : `${workload.namespace}/${workload.name}`
  const tunnel: Step =
    way.kind === 'sameNode'
      ? {
          step: 'tunnel',
          result: 'ok',
          what: `${name} is on the same node: joined by the agent, identities by the kernel, no TLS`,
        }
      : {
          step: 'tunnel',
          result: 'ok',
          what: `HBONE to ${formatSocketAddress(way.peer)}, whose peer must prove ${way.expectedIdentities.join(' or ')}`,
        }
  if (way.kind === 'hbone' && way.waypoint !== undefined)
    return explainWaypoint(world, source, way, way.waypoint.name, [...egress, tunnel], called)
  const steps: Step[] = [...egress, tunnel]
  const node = workload?.node ?? ''
  const far = node === world.source.node ? world.source : world.agentOf(node)
  if (way.kind === 'hbone') {
    steps.push(certificateStep(world.source, source.identity, world.now, 'the caller'))
    if (far !== undefined)
      for (const identity of way.expectedIdentities.slice(0, 1))
        steps.push(certificateStep(far, identity, world.now, name))
  }
  const security = way.kind === 'hbone' ? 'mutual_tls' : 'node_local'
  const peer = callerAddress(source, target) ?? target.address
  steps.push(
    ...arrival(far, node, workload, {
      peer: { address: peer, port: 0 },
      identity: source.identity,
      target,
      via: way.kind === 'hbone' ? 'hbone' : 'sameNode',
    }),
  )
  return { steps, security }
}

/** By a waypoint: what it makes of the call is its own to say, where it was asked; the pods that it may lead to let the client in, or do not. */
function explainWaypoint(
  world: CallWorld,
  source: LocalPod,
  way: Extract<OutboundDecision, { kind: 'hbone' }>,
  name: string,
  before: readonly Step[],
  called: Called,
): WayEnd {
  const { mesh } = world.source
  const caller = certificateStep(world.source, source.identity, world.now, 'the caller')
  const led = askWaypoint(world, source, way.target, name, called)
  if (led?.endpoints.length === 0)
    return { steps: [...before, caller, ...led.steps], security: 'mutual_tls' }
  const waypoint: Step = {
    step: 'waypoint',
    result: 'note',
    what: `waypoint ${name} leads it on, by its routes and policies, which were not asked`,
    object: `Gateway ${name}`,
  }
  const ends =
    led?.endpoints ??
    trueTargets(mesh, way, called.address).map((target) => ({
      target,
      workload: mesh.findWorkload(target.address),
    }))
  const admissions = ends.slice(0, MOST_ENDPOINTS).flatMap(({ target, workload }) => {
    const node = workload?.node ?? ''
    const far = node === world.source.node ? world.source : world.agentOf(node)
    const peer = { address: callerAddress(source, target) ?? target.address, port: 0 }
    const { identity } = source
    return arrival(far, node, workload, { peer, identity, target, via: 'hbone' })
  })
  // One that refuses is not chosen where others let it in: those are told as notes.
  const isOpen = admissions.some(({ result }) => result !== 'stop')
  const told = admissions.map(
    (step): Step => (isOpen && step.result === 'stop' ? { ...step, result: 'note' } : step),
  )
  const steps = [...before, caller, ...(led?.steps ?? [waypoint]), ...told]
  return { steps, security: 'mutual_tls' }
}

/** Undefined of one that was not asked. */
function askWaypoint(
  { source: { mesh }, waypointOf, request = PLAIN_REQUEST }: CallWorld,
  { identity, workloadUid, ...source }: LocalPod,
  target: SocketAddress,
  name: string,
  called: Called,
): WaypointEnd | undefined {
  const waypoint = waypointOf?.(name)
  if (waypoint === undefined) return undefined
  const own = callerAddress({ ...source, identity, workloadUid }, target) ?? target.address
  return waypointSteps({
    name,
    waypoint,
    source: {
      address: { address: own, port: 0 },
      identity,
      workload: mesh.workload(workloadUid),
    },
    target,
    head: requestHead(request, called.name),
  })
}

function certificateStep(
  { certificates, node }: AgentView,
  identity: SpiffeId,
  now: Date,
  whose: string,
): Step {
  const held = certificates.find((each) => each.identity === identity)
  const end = held?.certChain[0]?.expirationTime
  if (held === undefined || end === undefined)
    return {
      step: 'certificate',
      result: 'stop',
      what: `${whose} has no certificate for ${identity} on ${node}: ${held?.state ?? 'nobody has asked for it'}`,
      change: 'see the log of the controller, and "ambit certs -o json"',
    }
  const isOver = new Date(end) <= now
  return {
    step: 'certificate',
    result: isOver ? 'stop' : 'ok',
    what: `${whose}: ${identity}, ${isOver ? 'ended' : 'until'} ${end}`,
  }
}

interface Arriving {
  readonly peer: SocketAddress
  readonly identity: SpiffeId | undefined
  readonly target: SocketAddress
  readonly via: 'hbone' | 'plaintext' | 'sameNode'
}

/** What the called pod's agent makes of it. */
function arrival(
  far: AgentView | undefined,
  node: string,
  workload: Workload | undefined,
  { peer, identity, target, via }: Arriving,
): readonly Step[] {
  if (workload === undefined) return []
  const name = `${workload.namespace}/${workload.name}`
  if (far === undefined)
    return [
      {
        step: 'admission',
        result: 'unknown',
        what: `what ${name} makes of it is not known: the agent of ${node === '' ? 'its node' : node} was not asked`,
      },
    ]
  const pod = far.pods.find(({ workloadUid }) => workloadUid === workload.uid)
  if (pod === undefined) {
    const standing = far.standings.find((each) => `${each.namespace}/${each.name}` === name)
    const why = standing?.reason ?? standing?.state ?? `the agent of ${node} does not know it`
    return via === 'plaintext'
      ? [
          {
            step: 'admission',
            result: 'note',
            what: `${name} is not in the mesh (${why}): no policy of the mesh is asked`,
          },
        ]
      : [
          {
            step: 'admission',
            result: 'stop',
            what: `the mesh takes ${name} for one of its own, and its agent does not serve it: ${why}`,
            change: 'look at "ambit status"; it passes where a change is just under way',
          },
        ]
  }
  const call = { peer, peerIdentity: identity, destination: pod.uid, target, via }
  return [admissionStep(far, pod, call)]
}

/** A caller outside the mesh: the node leads it where kube-proxy does, and the called pod meets it in plaintext. */
function explainPlain(
  world: CallWorld,
  caller: Caller,
  called: Called,
  capture: Step,
): Explanation {
  const { pod } = caller
  const about = { source: `${pod.namespace}/${pod.name}`, destination: called.name }
  const { mesh } = world.source
  const { address, port } = called.address
  const match = mesh.findService(called.address, pod.namespace)
  const targets =
    match === undefined
      ? [{ workload: mesh.findWorkload(address), target: called.address }]
      : mesh.endpoints(match.service.key).flatMap((workload) => {
          const to = workload.services
            .get(match.service.key)
            ?.find(({ servicePort }) => servicePort === match.servicePort)
          const [own] = workload.addresses
          return to === undefined || own === undefined
            ? []
            : [{ workload, target: { address: own, port: to.targetPort } }]
        })
  const service: Step = {
    step: 'service',
    result: 'ok',
    what:
      match === undefined
        ? `${address}:${port} is the address of no Service`
        : `the node leads ${address}:${port} to an endpoint of Service ${match.service.namespace}/${match.service.name}`,
  }
  const peer = callerAddress(pod, called.address) ?? address
  const ends = targets.slice(0, MOST_ENDPOINTS).map(({ workload, target }): WayEnd => {
    const node = workload?.node ?? ''
    const far = node === world.source.node ? world.source : world.agentOf(node)
    const arriving = {
      peer: { address: peer, port: 0 },
      identity: undefined,
      target,
      via: 'plaintext',
    } as const
    return { steps: arrival(far, node, workload, arriving), security: 'plaintext' }
  })
  const steps = [
    capture,
    service,
    ...ends.flatMap((end, at) => (isShown(ends, at) ? end.steps : [])),
  ]
  const outcome = outcomeOf(ends)
  return {
    ...about,
    outcome,
    security: outcome === 'fails' ? undefined : 'plaintext',
    securities: outcome === 'fails' ? [] : ['plaintext'],
    steps,
    summary: summaryOf(outcome, 'plaintext', steps),
  }
}

function outcomeOf(ends: readonly WayEnd[]): Explanation['outcome'] {
  const has = ({ steps }: WayEnd, wanted: Step['result']): boolean =>
    steps.some(({ result }) => result === wanted)
  const refused = ends.every(({ steps }) =>
    steps.some(({ step, result }) => result === 'stop' && (step === 'policy' || step === 'route')),
  )
  if (ends.length > 0 && refused) return 'answered'
  if (ends.every((end) => has(end, 'stop'))) return 'fails'
  // Nothing is called open that nobody has said to be.
  if (ends.some((end) => !has(end, 'stop') && has(end, 'unknown'))) return 'unknown'
  return ends.some((end) => has(end, 'stop')) ? 'varies' : 'connects'
}

function fails(
  about: Pick<Explanation, 'source' | 'destination'>,
  steps: readonly Step[],
): Explanation {
  return {
    ...about,
    outcome: 'fails',
    security: undefined,
    securities: [],
    steps,
    summary: summaryOf('fails', undefined, steps),
  }
}

function summaryOf(
  outcome: Explanation['outcome'],
  security: Explanation['security'],
  steps: readonly Step[],
): string {
  const stop = steps.find(({ result }) => result === 'stop')
  const how = {
    mutual_tls: 'with mutual TLS',
    node_local: 'inside the node, both ends known by the kernel',
    plaintext: 'in plaintext',
  }[security ?? 'plaintext']
  switch (outcome) {
    case 'connects':
      return `It connects, ${how}.`
    case 'answered':
      return `It connects, ${how}, and the request gets no further: ${stop?.what ?? ''}.`
    case 'varies':
      return `It connects at some endpoints, ${how}; at others it does not: ${stop?.what ?? ''}.`
    case 'unknown':
      return 'It gets as far as the called pod; whether that lets it in is not known.'
    case 'fails':
      return `It does not connect: ${stop?.what ?? 'there is no endpoint'}.`
  }
}
