// SPDX-License-Identifier: Apache-2.0
// Whether a call that was really made went as foretold; where it did not, what is the likely cause. Pure.

import type { ProbedCall, SeenCall } from '../../agent/proxy/call-probe.ts'
import { MESH_PORTS } from '../../mesh/model/ports.ts'
import { parseSocketAddress } from '../../mesh/model/address.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { END_REASONS, type EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { Explanation, Step } from './steps.ts'

export interface Comparison {
  /** `open`: nobody could foretell it. */
  readonly agreement: 'agrees' | 'differs' | 'open'
  /** What happened, in one sentence. */
  readonly reality: string
  /** Where they differ. */
  readonly likely?: string
}

/** What an agent has answered; the error is for people. */
export function readProbedCall(answer: unknown): Result<ProbedCall, string> {
  const outcomes: ReadonlySet<unknown> = new Set<ProbedCall['outcome']>([
    'connected',
    'refused',
    'timedOut',
  ])
  return typeof answer === 'object' &&
    answer !== null &&
    'outcome' in answer &&
    outcomes.has(answer.outcome)
    ? ok(answer as ProbedCall)
    : err('it does not say what came of the call')
}

const PORT_DROPPED =
  'a NetworkPolicy of the CNI or a firewall (of a node, of the cloud) drops port 15008 between the nodes: let it through'
const PORT_REJECTED =
  'a NetworkPolicy of the CNI or a firewall rejects port 15008 between the nodes: let it through; or the called pod has left the mesh this moment'
const NOT_CAPTURED =
  'the connection did not pass the agent: the pod is not captured, or open while nobody serves it ("ambit status")'
const CHANGED =
  'the mesh has changed between question and trial, or agents know different things: ask again'
const SEE_AUDIT =
  'the called pod\'s agent decides by other policies than it told of a moment ago: "ambit audit" names the object'
const NO_LISTENER =
  'the mesh lets it through, and nobody listens on that port of the called pod, or its agent cannot serve it ("ambit logs" on its node)'
const SEE_CERTIFICATES =
  'certificates of one of the two ends: "ambit certs" and the logs of the controller'

/** Ends before anybody was asked for admission. */
const ON_THE_WAY: ReadonlyMap<EndReason, string> = new Map([
  ['connectTimeout', PORT_DROPPED],
  ['tlsFailure', SEE_CERTIFICATES],
  ['h2HandshakeFailure', SEE_CERTIFICATES],
  ['identityError', SEE_CERTIFICATES],
  ['peerIdentityMismatch', SEE_CERTIFICATES],
  ['certificateExpired', SEE_CERTIFICATES],
  ['handshakeRevoked', SEE_CERTIFICATES],
])
/** What connect() says of a call that the agent did not take. */
const BY_ERROR: ReadonlyMap<string, string> = new Map([
  ['EPERM', 'the pod is captured, and its agent does not listen ("ambit status")'],
  ['ENETUNREACH', 'the pod has no address of that family, or no route there'],
  ['ECONNREFUSED', 'nobody listens on that port'],
])

/** Compares what was foretold with what came of the call. */
export function compareLive(
  { outcome, securities, steps }: Pick<Explanation, 'outcome' | 'securities' | 'steps'>,
  probed: ProbedCall,
): Comparison {
  const reality = realityOf(probed)
  const likely = likelyCause(
    { outcome, securities, stop: steps.find(({ result }) => result === 'stop') },
    probed,
  )
  if (likely !== undefined) return { agreement: 'differs', reality, likely }
  return { agreement: outcome === 'unknown' ? 'open' : 'agrees', reality }
}

interface Foretold extends Pick<Explanation, 'outcome' | 'securities'> {
  readonly stop: Step | undefined
}

/** undefined where it went as foretold. */
function likelyCause(
  { outcome, securities, stop }: Foretold,
  probed: ProbedCall,
): string | undefined {
  const { seen, error } = probed
  switch (probed.outcome) {
    case 'timedOut':
      // Who waits for a certificate is told nothing before the trial ends.
      return outcome === 'fails' && stop?.step === 'certificate' ? undefined : silenceOf(seen)
    case 'connected':
      if (outcome === 'fails')
        return seen === undefined ? NOT_CAPTURED : stop?.step === 'admission' ? SEE_AUDIT : CHANGED
      if (outcome === 'unknown' || securities.includes(securityOf(seen))) return undefined
      return seen === undefined ? NOT_CAPTURED : CHANGED
    case 'refused': {
      const onTheWay = seen && hindranceOf(seen)
      if (outcome === 'fails')
        return stop?.step === 'certificate' || stop?.step === 'endpoint' ? undefined : onTheWay
      if (outcome === 'varies' || outcome === 'unknown') return onTheWay
      return onTheWay ?? refusalCause(seen, error)
    }
  }
}

function refusalCause(seen: SeenCall | undefined, error: string | undefined): string {
  if (seen?.reason === undefined) return BY_ERROR.get(error ?? '') ?? CHANGED
  const isVerdict =
    seen.reason === 'policyDenied' ||
    seen.reason === 'policyMissing' ||
    seen.message === 'http status: 401'
  if (isVerdict) return SEE_AUDIT
  return seen.reason === 'connectFailed' || seen.reason === 'hboneRefused' ? NO_LISTENER : CHANGED
}

/** What kept a call from being asked for admission; undefined where nothing did. */
function hindranceOf({ reason, dialled }: SeenCall): string | undefined {
  if (reason === 'connectFailed') return isHbone(dialled) ? PORT_REJECTED : undefined
  return reason && ON_THE_WAY.get(reason)
}

function isHbone(dialled: string | undefined): boolean {
  return dialled !== undefined && parseSocketAddress(dialled)?.port === MESH_PORTS.hbone
}

function silenceOf(seen: SeenCall | undefined): string {
  const dialled = seen?.dialled
  if (dialled === undefined) return CHANGED
  return isHbone(dialled)
    ? PORT_DROPPED
    : `nothing comes back from ${dialled}: a firewall or a NetworkPolicy of the CNI drops it, or there is no such host`
}

function securityOf(seen: SeenCall | undefined): Explanation['securities'][number] {
  return seen === undefined || seen.security === 'unknown' ? 'plaintext' : seen.security
}

function realityOf({ outcome, tookMs, error, seen }: ProbedCall): string {
  const whom = [seen?.workload, seen?.dialled && `at ${seen.dialled}`].filter(Boolean).join(' ')
  switch (outcome) {
    case 'connected': {
      if (seen === undefined) return 'It connects, not through the agent.'
      const { peerIdentity } = seen
      const how = {
        mutual_tls: `with mutual TLS; proven is ${peerIdentity ?? 'nobody'}`,
        node_local: 'inside the node, no TLS',
        unknown: 'in plaintext',
      }[seen.security]
      return `It connects to ${whom}, ${how}.`
    }
    case 'refused': {
      if (seen?.reason === undefined) return `It is refused: ${error ?? 'no reason is known'}.`
      const { reason, message, decidedBy } = seen
      const by = decidedBy && `, by ${decidedBy.madeOf ?? decidedBy.policy}`
      const text = [END_REASONS[reason].text, message].filter(Boolean).join(': ')
      return `It is refused${whom === '' ? '' : ` (${whom})`}: ${text}${by ?? ''}.`
    }
    case 'timedOut':
      return `No answer within ${Math.round(tookMs / 100) / 10} s${seen?.dialled === undefined ? '' : ` from ${seen.dialled}`}.`
  }
}

/** The lines that people read, below the explanation. */
export function liveText(
  { agreement, reality, likely }: Comparison,
  called: string,
  tookMs: number,
): readonly string[] {
  const verdict = {
    agrees: 'Reality is as foretold.',
    differs: `Reality differs. Likely: ${likely ?? ''}.`,
    open: 'Nobody could foretell it.',
  }[agreement]
  return ['', `Tried from the pod, ${called}, in ${tookMs} ms: ${reality}`, verdict]
}
