// SPDX-License-Identifier: Apache-2.0
// What a waypoint does with the requests and connections to a port of a Service: the routes that are attached to it, already judged,
// resolved and put in order of precedence by the controller. A type of ours; its form on the wire is in http-routes-wire.ts. A waypoint looks
// nothing up in Kubernetes.

export interface TextMatch {
  /** `regex`: RE2, of the whole text. */
  readonly kind: 'exact' | 'regex'
  readonly value: string
}

export interface PathMatch {
  /**
   * `prefix`: by segments, without a trailing slash: `/a` takes `/a`, `/a/` and `/a/b`, never `/ab`; `/` takes all. `regex`: RE2, of the
   * whole path.
   */
  readonly kind: 'exact' | 'prefix' | 'regex'
  readonly value: string
}

export interface NamedMatch {
  /** Of a header in lower case; of a query parameter as written. */
  readonly name: string
  readonly match: TextMatch
}

/** All of it holds. */
export interface HttpMatch {
  readonly path: PathMatch
  readonly method: string | undefined
  readonly headers: readonly NamedMatch[]
  readonly queryParams: readonly NamedMatch[]
}

export interface HeaderValue {
  readonly name: string
  readonly value: string
}

/** Names are in lower case. */
export interface HeaderEdit {
  readonly set: readonly HeaderValue[]
  readonly add: readonly HeaderValue[]
  readonly remove: readonly string[]
}

/** In place of the whole path, or of the prefix that has matched. */
export interface PathEdit {
  readonly kind: 'full' | 'prefix'
  readonly value: string
}

export type HttpFilter =
  | { readonly kind: 'requestHeaders'; readonly edit: HeaderEdit }
  | { readonly kind: 'responseHeaders'; readonly edit: HeaderEdit }
  | {
      readonly kind: 'redirect'
      readonly scheme: string | undefined
      readonly hostname: string | undefined
      readonly port: number | undefined
      readonly path: PathEdit | undefined
      readonly status: number
    }
  | {
      readonly kind: 'rewrite'
      readonly hostname: string | undefined
      readonly path: PathEdit | undefined
    }
  | {
      readonly kind: 'mirror'
      readonly backend: HttpBackendTarget
      /** Of how many requests: numerator / denominator. */
      readonly numerator: number
      readonly denominator: number
    }
  | {
      readonly kind: 'cors'
      readonly allowOrigins: readonly string[]
      readonly allowMethods: readonly string[]
      readonly allowHeaders: readonly string[]
      readonly exposeHeaders: readonly string[]
      readonly allowCredentials: boolean
      readonly maxAgeSeconds: number
    }

/** `service`: by the key `namespace/hostname` of mesh/model. `unresolved`: its share of the requests is answered with 500 (of a GRPCRoute with UNAVAILABLE), and says why. */
export type HttpBackendTarget =
  | { readonly kind: 'service'; readonly service: string; readonly port: number }
  | { readonly kind: 'unresolved'; readonly reason: string }

export interface HttpBackend {
  readonly target: HttpBackendTarget
  readonly weight: number
  readonly filters: readonly HttpFilter[]
}

export interface HttpTimeouts {
  /** Of the whole; 0: none. Milliseconds. */
  readonly requestMs: number
  /** Of one try; 0: none. Milliseconds. */
  readonly backendRequestMs: number
}

export interface HttpRetry {
  readonly attempts: number
  readonly codes: readonly number[]
  readonly backoffMs: number
}

export interface HttpSession {
  readonly kind: 'cookie' | 'header'
  readonly name: string
  /** From its beginning, and since its last request; 0: no end. Milliseconds. */
  readonly absoluteMs: number
  readonly idleMs: number
  /** Of 32 bytes, as base64url: seals what clients are given. A secret of the waypoints. */
  readonly key: string
  /** Of a cookie: it outlives the browser, for as long as `absoluteMs`. */
  readonly isPermanent: boolean
}

/** Whose rule it is: for the access line, metrics, audit and `why`. */
export interface RouteName {
  readonly kind: string
  readonly namespace: string
  readonly name: string
  /** Its `name`, or its place in the object's list from 0. */
  readonly rule: string
}

export interface HttpRule {
  readonly route: RouteName
  /** Any of them; the controller makes one of `/` where the object says none. */
  readonly matches: readonly HttpMatch[]
  readonly filters: readonly HttpFilter[]
  /** None: answered with 500, unless a filter answers. */
  readonly backends: readonly HttpBackend[]
  readonly timeouts: HttpTimeouts
  readonly retry: HttpRetry | undefined
  /** By which a client comes back to the endpoint it had; undefined: by nothing. */
  readonly session: HttpSession | undefined
  /** The rule cannot be used; its requests are answered with 500. Undefined: it can. */
  readonly fault: string | undefined
}

/** What becomes of connections that are carried as they are: a rule of a TCPRoute, or of a TLSRoute. */
export interface ConnectionRule {
  readonly route: RouteName
  /** Of a TLSRoute: for clients of TLS alone, which ask for one of these names; `*.` stands for one or more labels. None: for all. */
  readonly isTls: boolean
  readonly hostnames: readonly string[]
  readonly backends: readonly Pick<HttpBackend, 'target' | 'weight'>[]
  /** The rule cannot be used; its connections are refused. Undefined: it can. */
  readonly fault: string | undefined
}

/**
 * All of a Service, or of one of its ports; and of these all, or those for the clients of one namespace: the more specific resource alone
 * counts, and whose clients they are before which port. Rules stand in the order of their objects (oldest
 * first, then namespace/name, then as written); precedence among matches is the router's.
 */
export interface HttpRoutes {
  /** `namespace/hostname`, with `:port` where it has one, and `@clients` where it has those. */
  readonly key: string
  readonly service: string
  readonly port: number | undefined
  /** The namespace whose clients' requests alone these are: by their proven identity. */
  readonly clients: string | undefined
  readonly rules: readonly HttpRule[]
  /** In the same order; where there are some and no rules for requests, they count for HTTP, too. */
  readonly connections: readonly ConnectionRule[]
}
