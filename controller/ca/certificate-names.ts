// SPDX-License-Identifier: Apache-2.0
// The names under which the controller is dialled.

import { isIP } from 'node:net'
import type { LeafName } from '../../mesh/identity/issue.ts'
import type { ControllerConfig } from '../config.ts'

/** Istio's data plane, run under this controller, dials istiod's name. */
const ISTIOD = { service: 'istiod', namespace: 'istio-system' } as const

/** The names for the serving certificate: the Service in all its spellings, istiod's, and what was configured. */
export function servingNames(
  config: Pick<ControllerConfig, 'serviceName' | 'namespace' | 'clusterDomain' | 'servingNames'>,
): readonly LeafName[] {
  const { serviceName, namespace, clusterDomain } = config
  const names = [
    ...spellings(serviceName, namespace, clusterDomain),
    ...spellings(ISTIOD.service, ISTIOD.namespace, clusterDomain),
    ...config.servingNames,
  ]
  return [...new Set(names)].map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }))
}

function spellings(service: string, namespace: string, domain: string): readonly string[] {
  const short = `${service}.${namespace}`
  return [service, short, `${short}.svc`, `${short}.svc.${domain}`]
}
