// SPDX-License-Identifier: Apache-2.0
// The seam behind which payload moves: a carrier is given a call that was decided and permitted, and says how it ended. It stands
// before the upstream is opened, so that what carries may be streams of this process, native code or the kernel. Policy,
// telemetry and pools never touch payload.

import type { CutSignal } from '../../mesh/async/cut.ts'
import type {
  HboneFailure,
  IncomingTunnel,
  PoolTarget,
  TunnelHeaders,
} from '../../mesh/hbone/types.ts'
import type { IpAddress, PodUid, SocketAddress, SpiffeId } from '../../mesh/model/types.ts'
import type { RelayListener } from '../../mesh/relay/relay-result.ts'
import type { PlainSocket } from '../../mesh/relay/thin-socket.ts'
import type { OriginalDestination, OwnSource } from '../capture/types.ts'
import type { Permit } from './admission.ts'

/** Where the call comes from. Nothing has been read of it, and a CONNECT has not been answered. */
export type Downstream =
  | { readonly kind: 'socket'; readonly socket: PlainSocket }
  | {
      readonly kind: 'tunnel'
      readonly incoming: IncomingTunnel
      /** Goes with the answer. */
      readonly baggage: string
    }

/** As whom an app is called. */
export interface AppClient {
  readonly address: IpAddress
  /** Of its own connection to this pod, where it called in plaintext. */
  readonly port: number | undefined
}

/** Where it was decided to lead it. `timeoutMs`: for the TCP connection; undefined: as long as the kernel goes on trying. */
export type Way =
  /** Into a pod of this node, to its app; seen from the client's address, or from the pod itself. */
  | {
      readonly kind: 'app'
      readonly pod: PodUid
      readonly netnsFd: number
      readonly target: SocketAddress
      readonly client: AppClient | undefined
      readonly timeoutMs: number | undefined
    }
  /** Unchanged, out of the caller's own namespace. */
  | {
      readonly kind: 'passthrough'
      readonly netnsFd: number
      readonly target: SocketAddress
      /** The caller's socket. */
      readonly app: Pick<OriginalDestination, 'cookie' | 'asked'>
      /** What the caller bound its socket to; undefined: as routing chooses. */
      readonly from: OwnSource | undefined
      readonly timeoutMs: number | undefined
    }
  /** Through a tunnel to a peer of the mesh. */
  | {
      readonly kind: 'hbone'
      readonly peer: PoolTarget
      readonly authority: string
      readonly headers: TunnelHeaders
      /** The caller's socket. */
      readonly app: Pick<OriginalDestination, 'cookie' | 'asked'>
    }

/** The call, and who wants to hear of it. It is kept while the connection is idle, which is most of its life. */
export interface Carried extends RelayListener {
  /** Until it is opened. */
  readonly downstream: Downstream
  /** Cuts it at any moment, with a reset; an EndReason as its reason becomes the end's. */
  readonly signal: CutSignal
  /** Both legs stand; with the identity that the far end proved by a certificate. */
  opened(peerIdentity: SpiffeId | undefined): void
}

export type Carriage =
  /** The upstream could not be had. The downstream is as it was: another way may be tried, or the call be refused. */
  | { readonly kind: 'unopened'; readonly failure: HboneFailure }
  /** Both legs stand, and it is carried to its end, of which the call hears. Nobody waits for that: it may be days away. */
  | { readonly kind: 'carried' }

export interface Carrier {
  /**
   * Opens the way, and from then on carries the call to its end; never rejects for anything the network does. The permit is that of the pod that is entered, or of
   * the caller where none of this node is; it stays its owner's.
   */
  carry(call: Carried, way: Way, permit: Permit): Promise<Carriage>
}
