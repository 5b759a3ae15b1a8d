// SPDX-License-Identifier: Apache-2.0
// Tells the owners of pods, by their events, that the certificate authority refuses their identity: such a pod calls nobody and is called
// by nobody over HBONE, and the audit of it is the controller's. Nothing of a refusal that may yet turn out to be haste.

import type { CaFailure } from '../../mesh/identity/types.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import type { EventTarget } from '../enrolment/index.ts'
import type { DenialEvents } from './denial-events.ts'

export interface RefusalsToTell {
  /** The pods that are served, and by which identity. */
  readonly pods: () => readonly (EventTarget & { readonly identity: SpiffeId })[]
  readonly events: Pick<DenialEvents, 'note'>
}

/** What to do with a refusal: a listener of the certificate manager. */
export function certificateRefusals({
  pods,
  events,
}: RefusalsToTell): (identity: SpiffeId, failure: CaFailure) => void {
  return (identity, { message }) => {
    for (const { uid, namespace, name, identity: own } of pods()) {
      if (own !== identity) continue
      events.note(
        { uid, namespace, name },
        {
          kind: 'certificate.refused',
          time: Date.now(),
          namespace,
          who: `pod ${namespace}/${name}`,
          what: identity,
          why: message,
        },
        1,
      )
    }
  }
}
