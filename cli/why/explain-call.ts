// SPDX-License-Identifier: Apache-2.0
// What would happen to a connection, step by step, by the data plane's own functions over the agents' own state. Pure.

import { decideOutbound, type OutboundDecision } from '../../agent/proxy/decision/outbound.ts'
import { callerAddress, type LocalPod } from '../../agent/proxy/local-pod.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { SocketAddress, Workload, WorkloadUid } from '../../mesh/model/types.ts'
import type { Called } from './call.ts'
import { type Caller, type CallWorld, MOST_ENDPOINTS } from './call-world.ts'
import { captureStep, isOwn } from './capture-step.ts'
import { fails, isShown, outcomeOf, summaryOf } from './outcome.ts'
import { explainPlain } from './plain-call.ts'
import type { Explanation, Step } from './steps.ts'
import { denyStep, explainWay } from './way.ts'
import type { AgentView } from './world.ts'

/** Explains one connection. Where a request is asked about and nobody on the way reads requests, it says so. */
export function explainCall(world: CallWorld, caller: Caller, called: Called): Explanation {
  const explanation = explainWhole(world, caller, called)
  const { outcome, steps } = explanation
  if (world.request === undefined || steps.some(({ step }) => step === 'waypoint'))
    return explanation
  // Of what ends earlier nobody knows whether a waypoint would have come.
  const isWayKnown = steps.some(({ step }) => step === 'tunnel' || step === 'admission')
  if (outcome === 'fails' && !isWayKnown) return explanation
  return { ...explanation, steps: [...steps, UNREAD] }
}

/** A flag that was given must not seem to have had a say. */
const UNREAD: Step = {
  step: 'waypoint',
  result: 'note',
  what: 'no waypoint is on the way: nobody reads requests, and what was said of method, path, host and headers decides nothing',
  change:
    'let what is called use a waypoint: "ambit waypoint apply", and the label istio.io/use-waypoint',
}

function explainWhole(world: CallWorld, caller: Caller, called: Called): Explanation {
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
