// SPDX-License-Identifier: Apache-2.0
// The one decision of a pod's life: what is to be done next, given what it is to be and what it is. Pure; each step
// makes what is a little more what is desired, and the pod's queue (pod-enrolment.ts) asks again after each.

import type { Desired } from './facts.ts'
import { isSameNetns, type NetnsIdentity } from './netns-identity.ts'

/** How a pod stands with capture and the data plane. */
export type Actual =
  /** Nothing of it is captured, so far as this process and its predecessors know. */
  | { readonly kind: 'plain' }
  /** An attempt failed: what an earlier agent had captured of the pod may still be so. */
  | { readonly kind: 'uncertain' }
  /** What was captured turned out to be another namespace, whosever: first of all it is let go. */
  | { readonly kind: 'astray' }
  | {
      readonly kind: 'captured'
      readonly netns: NetnsIdentity
      /** False while the pod has no listeners anybody serves: its connections are refused. */
      readonly isServed: boolean
      /** The data plane knows that the pod is being deleted. */
      readonly isDraining: boolean
    }
  /** Nothing of it is captured; what it has open goes on, and so does HBONE for peers that have not heard that it left. */
  | {
      readonly kind: 'left'
      readonly netns: NetnsIdentity
      /** False while nobody serves its HBONE. */
      readonly isServed: boolean
      /** No peer can take it for one of the mesh any more. */
      readonly isForgotten: boolean
    }

export type Step =
  /** All is as it is to be. */
  | { readonly kind: 'rest' }
  /** Nothing can be done before something is known that is not yet. */
  | { readonly kind: 'wait'; readonly reason: string }
  /** Capture the pod, or capture it again for fresh listeners, and have it served. */
  | { readonly kind: 'enrol' }
  /** Have the data plane tell the peers that they are to send nothing new over the connections they have into the pod. */
  | { readonly kind: 'drain' }
  /** End capture of a pod that goes on without the mesh, but not its HBONE. */
  | { readonly kind: 'leave'; readonly reason: string }
  /** End capture. `livesOn`: its established connections have done nothing to be cut for. */
  | { readonly kind: 'withdraw'; readonly reason: string; readonly livesOn: boolean }

/** What brings a pod nearer to what it is to be. */
export function nextStep(desired: Desired, actual: Actual): Step {
  if (actual.kind === 'astray') {
    const livesOn = desired.kind !== 'plain' || desired.livesOn
    return { kind: 'withdraw', reason: 'another namespace is captured in its name', livesOn }
  }
  switch (desired.kind) {
    case 'unknown':
      if (!isUnserved(actual)) return { kind: 'wait', reason: desired.reason }
      return actual.kind === 'left' ? { kind: 'leave', reason: desired.reason } : { kind: 'enrol' }
    case 'plain':
      return towardsPlain(desired, actual)
    case 'captured':
      return towardsCaptured(desired, actual)
  }
}

type Found = Exclude<Actual, { readonly kind: 'astray' }>

function towardsPlain(
  { reason, livesOn }: Extract<Desired, { kind: 'plain' }>,
  actual: Found,
): Step {
  if (actual.kind === 'plain') return { kind: 'rest' }
  if (!livesOn || actual.kind === 'uncertain') return { kind: 'withdraw', reason, livesOn }
  // As long as its peers do not know, they open tunnels to it.
  if (actual.kind === 'captured') return { kind: 'leave', reason }
  if (actual.isForgotten) return { kind: 'withdraw', reason: 'its peers know', livesOn }
  return actual.isServed ? { kind: 'rest' } : { kind: 'leave', reason }
}

function towardsCaptured(
  { netns, isDraining }: Extract<Desired, { kind: 'captured' }>,
  actual: Found,
): Step {
  if (actual.kind === 'plain' || actual.kind === 'uncertain') return { kind: 'enrol' }
  if (netns !== undefined && !isSameNetns(netns, actual.netns))
    return { kind: 'withdraw', reason: 'the pod has a new sandbox', livesOn: true }
  if (actual.kind === 'left' || !actual.isServed) return { kind: 'enrol' }
  return isDraining && !actual.isDraining ? { kind: 'drain' } : { kind: 'rest' }
}

const isUnserved = (actual: Actual): boolean =>
  (actual.kind === 'captured' || actual.kind === 'left') && !actual.isServed
