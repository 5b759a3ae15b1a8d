// SPDX-License-Identifier: Apache-2.0
// Credentials and options of a TLS channel to the control plane, dialled by name or by IP address.

import { isIP } from 'node:net'
import { checkServerIdentity } from 'node:tls'
import { type ChannelCredentials, type ChannelOptions, credentials } from '@grpc/grpc-js'
import { parseHostPort } from '../model/host-port.ts'

/** TLS forbids an IP address as server name (RFC 6066 3), but grpc-js always sends one: this stands in. */
const NAME_FOR_IP_HOSTS = 'control-plane.invalid'

export interface SecureChannel {
  readonly credentials: ChannelCredentials
  readonly options: ChannelOptions
}

/**
 * Makes a channel that trusts these roots only. The server's certificate must be for `serverName`, or else for the host
 * in `address` (host:port), be it a name or an IP address.
 */
export function secureChannel(
  address: string,
  rootsPem: Buffer,
  serverName: string | undefined,
): SecureChannel {
  if (serverName !== undefined)
    return {
      credentials: credentials.createSsl(rootsPem),
      options: {
        'grpc.ssl_target_name_override': serverName,
        'grpc.default_authority': serverName,
      },
    }
  const host = parseHostPort(address)?.host ?? address
  if (isIP(host) === 0) return { credentials: credentials.createSsl(rootsPem), options: {} }
  return {
    credentials: credentials.createSsl(rootsPem, null, null, {
      checkServerIdentity: (_name, certificate) => checkServerIdentity(host, certificate),
    }),
    options: { 'grpc.ssl_target_name_override': NAME_FOR_IP_HOSTS },
  }
}
