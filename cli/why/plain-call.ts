// SPDX-License-Identifier: Apache-2.0
// A caller outside the mesh. Pure.

import { callerAddress } from '../../agent/proxy/local-pod.ts'
import { arrival } from './arrival.ts'
import type { Called } from './call.ts'
import { type Caller, type CallWorld, MOST_ENDPOINTS } from './call-world.ts'
import { isShown, outcomeOf, summaryOf, type WayEnd } from './outcome.ts'
import type { Explanation, Step } from './steps.ts'

/** A caller outside the mesh: the node leads it where kube-proxy does, and the called pod meets it in plaintext. */
export function explainPlain(
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
