// SPDX-License-Identifier: Apache-2.0
// Who calls whom, as a person writes it: `ns/pod` or `ns/deploy/name`, and a pod, a Service, a host name or an address with its port.

import { isIP } from 'node:net'
import { parseIpAddress } from '../../mesh/model/address.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { IpAddress, Service, SocketAddress, Workload } from '../../mesh/model/types.ts'
import { err, ok, type Result } from '../../mesh/result.ts'

/** The caller, as far as its words go. */
export interface SourceText {
  readonly namespace: string
  readonly name: string
  /** The name is that of a Deployment, or of whatever else made the pod. */
  readonly isOwner: boolean
}

export type DestinationText =
  | { readonly kind: 'address'; readonly address: IpAddress; readonly port: number }
  | {
      readonly kind: 'object'
      readonly namespace: string
      readonly name: string
      readonly port: number | undefined
    }
  | { readonly kind: 'hostname'; readonly hostname: string; readonly port: number | undefined }

const OWNER_KINDS = new Set([
  'deploy',
  'deployment',
  'sts',
  'statefulset',
  'ds',
  'daemonset',
  'job',
])
const NAME = /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/
const HIGHEST_PORT = 65_535

/** Reads SRC; the error says what form it wants. */
export function parseSource(text: string): Result<SourceText, string> {
  const [namespace = '', second = '', third, ...rest] = text.split('/')
  const name = third ?? second
  const isOwner = third !== undefined
  if (
    rest.length > 0 ||
    !NAME.test(namespace) ||
    !NAME.test(name) ||
    (isOwner && !OWNER_KINDS.has(second))
  )
    return err('it must be NAMESPACE/POD or NAMESPACE/deploy/NAME')
  return ok({ namespace, name, isOwner })
}

/** Reads DST[:PORT]. */
export function parseDestination(text: string): Result<DestinationText, string> {
  const split = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text)
  const bare = parseIpAddress(text)
  if (split === null && bare === undefined)
    return err('it must be NAMESPACE/NAME, a host name or an address, with :PORT')
  const host = split?.[1] ?? split?.[2] ?? text
  const port = split?.[3] === undefined ? undefined : Number(split[3])
  if (port !== undefined && (port < 1 || port > HIGHEST_PORT)) return err(`${port} is not a port`)
  const address = parseIpAddress(host)
  if (address !== undefined)
    return port === undefined
      ? err('an address needs a port: IP:PORT, IPv6 in brackets')
      : ok({ kind: 'address', address, port })
  if (isIP(host) !== 0) return err('an address with a zone means something on its own link only')
  const [namespace = '', name, ...rest] = host.split('/')
  if (name === undefined)
    return NAME.test(host)
      ? ok({ kind: 'hostname', hostname: host, port })
      : err(`"${host}" is no host name`)
  if (rest.length > 0 || !NAME.test(namespace) || !NAME.test(name))
    return err('it must be NAMESPACE/NAME, a host name or an address, with :PORT')
  return ok({ kind: 'object', namespace, name, port })
}

/** What an app would ask its socket for. */
export interface Called {
  readonly address: SocketAddress
  /** What it was called by, for people. */
  readonly name: string
}

/** The address that the words lead to, in the mesh as an agent knows it; the error says what is missing, and what there is. */
export function resolveDestination(
  destination: DestinationText,
  {
    mesh,
    namespace,
    clusterDomain,
    prefers,
  }: {
    readonly mesh: MeshState
    /** The caller's. */
    readonly namespace: string
    readonly clusterDomain: string
    /** Families that the caller has, the first best. */
    readonly prefers: (addresses: readonly IpAddress[]) => IpAddress | undefined
  },
): Result<Called, string> {
  if (destination.kind === 'address') {
    const { address, port } = destination
    return ok({ address: { address, port }, name: `${address}:${port}` })
  }
  const found =
    destination.kind === 'object'
      ? findObject(mesh, destination.namespace, destination.name)
      : findHost(mesh, destination.hostname, namespace, clusterDomain)
  if (found === undefined)
    return err(
      destination.kind === 'object'
        ? `neither a Service nor a pod ${destination.namespace}/${destination.name} is known to the mesh`
        : `no Service of the mesh has the host name ${destination.hostname}; where DNS leads outside of it, say so by IP:PORT`,
    )
  const port = destination.port ?? onlyPort(found)
  if (port === undefined) return err(`name the port: ${portsText(found)}`)
  const addresses =
    found.kind === 'service'
      ? found.service.addresses.map(({ address }) => address)
      : found.workload.addresses
  const address = prefers(addresses)
  if (address === undefined) return err('it has no address of a family that the caller has')
  const name =
    found.kind === 'service'
      ? found.service.hostname
      : `${found.workload.namespace}/${found.workload.name}`
  return ok({ address: { address, port }, name: `${name}:${port}` })
}

type Found =
  | { readonly kind: 'service'; readonly service: Service }
  | { readonly kind: 'workload'; readonly workload: Workload }

function findObject(mesh: MeshState, namespace: string, name: string): Found | undefined {
  // As kubectl's users mean it more often.
  for (const service of mesh.services())
    if (service.namespace === namespace && service.name === name)
      return { kind: 'service', service }
  for (const workload of mesh.workloads())
    if (workload.namespace === namespace && workload.name === name)
      return { kind: 'workload', workload }
  return undefined
}

/** By the search list of a pod's resolv.conf. */
function findHost(
  mesh: MeshState,
  hostname: string,
  namespace: string,
  clusterDomain: string,
): Found | undefined {
  for (const suffix of [
    '',
    `.${namespace}.svc.${clusterDomain}`,
    `.svc.${clusterDomain}`,
    `.${clusterDomain}`,
  ]) {
    const service = mesh.findServiceByHostname(hostname + suffix, namespace)
    if (service !== undefined) return { kind: 'service', service }
  }
  return undefined
}

function onlyPort(found: Found): number | undefined {
  if (found.kind === 'workload') return undefined
  const [only, another] = found.service.ports
  return another === undefined ? only?.servicePort : undefined
}

function portsText(found: Found): string {
  if (found.kind === 'workload') return `it is a pod, NAMESPACE/NAME:PORT`
  const ports = found.service.ports.map(({ servicePort }) => servicePort)
  return ports.length === 0 ? 'the Service has none' : `the Service has ${ports.join(', ')}`
}
