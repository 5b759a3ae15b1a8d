// SPDX-License-Identifier: Apache-2.0
// What becomes of a connection on one of its ways: to one endpoint, or through a waypoint to those behind it. Pure.

import { lastKnown } from '../../agent/proxy/decision/forgotten.ts'
import type { OutboundDecision } from '../../agent/proxy/decision/outbound.ts'
import { trueTargets } from '../../agent/proxy/decision/true-targets.ts'
import { waypointName } from '../../agent/proxy/decision/waypoint.ts'
import { callerAddress, type LocalPod } from '../../agent/proxy/local-pod.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { SocketAddress, SpiffeId } from '../../mesh/model/types.ts'
import { END_REASONS } from '../../mesh/telemetry/end-reason.ts'
import { arrival } from './arrival.ts'
import type { Called } from './call.ts'
import { type CallWorld, MOST_ENDPOINTS } from './call-world.ts'
import { egressSteps } from './network-step.ts'
import type { WayEnd } from './outcome.ts'
import { PLAIN_REQUEST, requestHead } from './request.ts'
import type { Step } from './steps.ts'
import { type WaypointEnd, waypointSteps } from './waypoint-step.ts'
import type { AgentView } from './world.ts'

type HboneWay = Extract<OutboundDecision, { kind: 'hbone' }>

/** What becomes of the connection on this way. */
export function explainWay(
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
  const known = lastKnown(workload, world.source.mesh)
  const tunnel: Step =
    way.kind === 'sameNode'
      ? {
          step: 'tunnel',
          result: 'ok',
          what: `${name} is on the same node: joined by the agent, identities by the kernel, no TLS${known}`,
        }
      : {
          step: 'tunnel',
          result: 'ok',
          what: `HBONE to ${formatSocketAddress(way.peer)}, whose peer must prove ${way.expectedIdentities.join(' or ')}${known}`,
        }
  if (way.kind === 'hbone' && way.waypoint !== undefined)
    return explainWaypoint(
      world,
      source,
      way,
      way.waypoint.name,
      [...egress, tunnel, ...sharesStep(world.source.mesh, way)],
      called,
    )
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

export function denyStep(way: Extract<OutboundDecision, { kind: 'deny' }>): Step {
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

/** Who has which share of the connections, where a canary has one. */
function sharesStep(mesh: MeshState, { service, waypoint }: HboneWay): readonly Step[] {
  if (service === undefined || waypoint?.of !== 'service') return []
  const shares = service.weightedWaypoints.map(
    ({ destination, weight }) => `${weight} by ${waypointName(mesh, destination)}`,
  )
  if (shares.length === 0) return []
  const total = service.weightedWaypoints.reduce((sum, { weight }) => sum + weight, 0)
  const what = `of ${total} connections go ${shares.join(', ')}: what follows is true of ${waypoint.name}`
  return [
    {
      step: 'waypoint',
      result: 'note',
      what,
      object: `Service ${service.namespace}/${service.name}`,
    },
  ]
}

/** By a waypoint: what it makes of the call is its own to say, where it was asked; the pods that it may lead to let the client in, or do not. */
function explainWaypoint(
  world: CallWorld,
  source: LocalPod,
  way: HboneWay,
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
  { source: { mesh }, waypointOf, request }: CallWorld,
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
    head: requestHead(request ?? PLAIN_REQUEST, called.name),
    isRequestSaid: request !== undefined,
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
