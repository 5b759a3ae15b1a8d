// SPDX-License-Identifier: Apache-2.0
// The text of a kubeconfig that plain kubectl and every client library accept.

import { stringify } from 'yaml'

export interface KubeconfigOptions {
  /** https://HOST:PORT as the client reaches it. */
  readonly server: string
  /** Cluster, user and context name. Default ambit-lab. */
  readonly name?: string | undefined
  /** Another bearer token than the administrator's. */
  readonly token?: string | undefined
  readonly namespace?: string | undefined
}

export interface KubeconfigParts {
  readonly server: string
  readonly caPem: string
  readonly token: string
  readonly name: string
  readonly namespace?: string | undefined
}

/** One cluster, one user, one context, all of the same name; the CA is embedded. */
export function kubeconfigText(parts: KubeconfigParts): string {
  const { server, caPem, token, name, namespace } = parts
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name,
        cluster: {
          server,
          'certificate-authority-data': Buffer.from(caPem).toString('base64'),
        },
      },
    ],
    users: [{ name, user: { token } }],
    contexts: [
      {
        name,
        context: { cluster: name, user: name, ...(namespace === undefined ? {} : { namespace }) },
      },
    ],
    'current-context': name,
  })
}
