// SPDX-License-Identifier: Apache-2.0
// Why a connection ended: one list shared by the proxy, its metrics, its logs and the docs.
// `flag` is the response_flags value of Istio's metrics (`-` for none); names follow what operators search for.

export const END_REASONS = {
  ok: { flag: '-', text: '' },
  clientReset: { flag: '-', text: 'connection reset by the client' },
  serverReset: { flag: '-', text: 'connection reset by the server' },
  unknownLocalWorkload: {
    flag: 'CONNECT',
    text: 'failed to fetch information about local workload',
  },
  noOriginalDestination: {
    flag: 'CONNECT',
    text: 'no original destination was recorded: direct call to a mesh port',
  },
  selfCall: { flag: 'CONNECT', text: 'attempted recursive call to ourselves' },
  noHealthyUpstream: { flag: 'CONNECT', text: 'no healthy upstream' },
  waypointUnavailable: {
    flag: 'WAYPOINT',
    text: 'the waypoint that must be passed cannot be had',
  },
  notTheWaypoint: {
    flag: 'WAYPOINT',
    text: 'refused: it names a client that only a waypoint of the pod may call for',
  },
  connectFailed: { flag: 'CONNECT', text: 'connection to the upstream failed' },
  connectTimeout: {
    flag: 'NETWORK_POLICY',
    text: 'connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008',
  },
  tlsFailure: { flag: 'TLS_FAILURE', text: 'TLS handshake failed' },
  h2HandshakeFailure: { flag: 'H2_HANDSHAKE_FAILURE', text: 'HTTP/2 handshake failed' },
  identityError: { flag: 'IDENTITY_ERROR', text: 'no valid certificate for the local identity' },
  peerIdentityMismatch: { flag: 'IDENTITY_ERROR', text: 'peer identity is not the expected one' },
  hboneRefused: { flag: 'CONNECT', text: 'the peer refused the tunnel' },
  hboneBadRequest: { flag: 'CONNECT', text: 'malformed HBONE request' },
  tooManyConnections: { flag: 'CONNECT', text: 'too many open connections' },
  tooManyUnreadBytes: {
    flag: 'OVERLOAD',
    text: 'reset for memory: too many bytes waited for a receiver that does not read',
  },
  outOfDescriptors: {
    flag: 'OVERLOAD',
    text: 'refused: the agent is almost out of file descriptors (RLIMIT_NOFILE)',
  },
  floodRefused: {
    flag: 'OVERLOAD',
    text: 'refused for a while: the caller flooded the pod or made it work for nothing',
  },
  policyDenied: { flag: 'DENY', text: 'connection closed due to policy rejection' },
  policyChanged: { flag: 'DENY', text: 'connection closed due to policy change' },
  policyMissing: {
    flag: 'DENY',
    text: 'refused: a policy of the pod is not known or cannot be read',
  },
  certificateExpired: {
    flag: 'CERT_EXPIRED',
    text: 'the certificates that the connection was opened with have ended',
  },
  certificateRevoked: {
    flag: 'CERT_REVOKED',
    text: "the peer's certificate is revoked (CRL)",
  },
  handshakeRevoked: {
    flag: 'CERT_REVOKED',
    text: "refused in the handshake: the peer's certificate is revoked (CRL)",
  },
  peerDistrusted: {
    flag: 'DISTRUST',
    text: 'the peer is not trusted any more: roots or trust domains have changed',
  },
  peerSilent: {
    flag: 'CONNECT',
    text: 'nothing was heard of the peer for as long as the app lets it be silent (keepalive, TCP_USER_TIMEOUT)',
  },
  drained: { flag: '-', text: 'connection closed due to connection drain' },
  podRemoved: { flag: '-', text: 'connection closed because the pod left the mesh' },
  internal: { flag: '-', text: 'internal error' },
} as const satisfies Record<string, { readonly flag: string; readonly text: string }>

export type EndReason = keyof typeof END_REASONS

export function isEndReason(value: unknown): value is EndReason {
  return typeof value === 'string' && Object.hasOwn(END_REASONS, value)
}
