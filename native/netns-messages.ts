// SPDX-License-Identifier: Apache-2.0
// What the namespace worker is asked and what it answers. Plain data only: it crosses a thread border.

import type { Road, Wiring } from './links.ts'
import type { KeptNetns } from './rtnetlink.ts'
import type { SocketSpec } from './socket-spec.ts'

/** A rule and a route that bring marked packets to the local host, per family. */
export interface MarkRoute {
  readonly mark: number
  readonly mask: number
  readonly table: number
  /** Order among the namespace's rules; lower is looked at first. */
  readonly priority: number
}

export interface SysctlValue {
  /** Below /proc/sys, e.g. `net/ipv4/tcp_fwmark_accept`. */
  readonly path: string
  readonly value: string
}

export type NetnsRequest =
  | { readonly op: 'socket'; readonly netnsFd: number; readonly spec: Omit<SocketSpec, 'netns'> }
  | { readonly op: 'cookie'; readonly netnsFd: number }
  | { readonly op: 'netlinkSocket'; readonly netnsFd: number }
  | { readonly op: 'create' }
  | { readonly op: 'wiring'; readonly netnsFd: number }
  | { readonly op: 'road'; readonly address: Uint8Array }
  | { readonly op: 'sysctl'; readonly netnsFd: number; readonly values: readonly SysctlValue[] }
  | {
      readonly op: 'keep'
      readonly netnsFd: number
      readonly families: readonly (4 | 6)[]
      readonly route: MarkRoute
    }
  | {
      readonly op: 'deleteMarkRoute'
      readonly netnsFd: number
      readonly families: readonly (4 | 6)[]
      readonly route: MarkRoute
    }

export interface NetnsReplies {
  socket: number
  cookie: bigint
  netlinkSocket: number
  create: number
  wiring: Wiring
  road: Road
  sysctl: readonly SysctlValue[]
  keep: KeptNetns
  deleteMarkRoute: undefined
}

/** A failed request, as data: class instances lose their prototype between threads. */
export interface NetnsFailure {
  readonly call: string
  readonly errno: number | undefined
  readonly detail: string
}

export type NetnsReply =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly id: number; readonly ok: false; readonly failure: NetnsFailure }
