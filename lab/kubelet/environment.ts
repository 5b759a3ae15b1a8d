// SPDX-License-Identifier: Apache-2.0
// A container's environment, command and arguments from its spec: literals, references to the pod's own
// fields, ConfigMaps and Secrets, and $(NAME) expansion.

import { dirname } from 'node:path'
import type { V1Container, V1EnvVar, V1EnvVarSource } from '@kubernetes/client-node'
import type { Pod, Wire } from '../../mesh/kube/resources.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { findImage } from './images.ts'
import type { ObjectCache } from './object-cache.ts'

export type Container = Wire<V1Container>
export type Environment = Readonly<Record<string, string>>

/** What the pod's own fields are read from: its spec and what the kubelet knows before the status is written. */
export interface PodFields {
  readonly pod: Pod
  readonly podIps: readonly string[]
  readonly hostIps: readonly string[]
  readonly kubernetesServiceIp: string
  readonly hostname: string
}

const HOST_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** What every container finds in its environment. `node` is the one that runs the lab. */
function baseEnvironment(container: Container, fields: PodFields): Record<string, string> {
  const { kubernetesServiceIp: serviceIp } = fields
  const programs = findImage(container.image)?.programs ?? []
  const hostInUrl = serviceIp.includes(':') ? `[${serviceIp}]` : serviceIp
  return {
    PATH: [...programs, dirname(process.execPath), HOST_PATH].join(':'),
    HOME: '/root',
    HOSTNAME: fields.hostname,
    KUBERNETES_SERVICE_HOST: serviceIp,
    KUBERNETES_SERVICE_PORT: '443',
    KUBERNETES_SERVICE_PORT_HTTPS: '443',
    KUBERNETES_PORT: `tcp://${hostInUrl}:443`,
    KUBERNETES_PORT_443_TCP: `tcp://${hostInUrl}:443`,
    KUBERNETES_PORT_443_TCP_ADDR: serviceIp,
    KUBERNETES_PORT_443_TCP_PORT: '443',
    KUBERNETES_PORT_443_TCP_PROTO: 'tcp',
  }
}

/** Resolves a container's environment; the error says which reference cannot be followed. */
export async function resolveEnvironment(
  container: Container,
  fields: PodFields,
  objects: ObjectCache,
): Promise<Result<Environment, string>> {
  const environment = baseEnvironment(container, fields)
  const namespace = fields.pod.metadata?.namespace ?? 'default'
  for (const source of container.envFrom ?? []) {
    const { configMapRef, secretRef, prefix = '' } = source
    const reference = configMapRef ?? secretRef
    const name = reference?.name ?? ''
    const data =
      configMapRef === undefined
        ? decodeSecret((await objects.secret(namespace, name))?.data)
        : (await objects.configMap(namespace, name))?.data
    if (data === undefined) {
      if (reference?.optional === true) continue
      return err(`${configMapRef === undefined ? 'secret' : 'configmap'} "${name}" not found`)
    }
    for (const [key, value] of Object.entries(data)) environment[prefix + key] = value
  }
  for (const variable of container.env ?? []) {
    const value = await resolveVariable(variable, container, fields, objects, environment)
    if (!value.ok) return err(`env ${variable.name}: ${value.error}`)
    if (value.value !== undefined) environment[variable.name] = value.value
  }
  return ok(environment)
}

async function resolveVariable(
  variable: Wire<V1EnvVar>,
  container: Container,
  fields: PodFields,
  objects: ObjectCache,
  environment: Environment,
): Promise<Result<string | undefined, string>> {
  if (variable.valueFrom === undefined) return ok(expand(variable.value ?? '', environment))
  return await resolveSource(variable.valueFrom, container, fields, objects)
}

async function resolveSource(
  source: Wire<V1EnvVarSource>,
  container: Container,
  fields: PodFields,
  objects: ObjectCache,
): Promise<Result<string | undefined, string>> {
  const namespace = fields.pod.metadata?.namespace ?? 'default'
  if (source.fieldRef !== undefined) return podField(source.fieldRef.fieldPath, fields)
  if (source.resourceFieldRef !== undefined) {
    const { resource } = source.resourceFieldRef
    const [kind = '', quantity = ''] = resource.split('.')
    const values = kind === 'limits' ? container.resources?.limits : container.resources?.requests
    return ok(values?.[quantity] ?? '0')
  }
  const reference = source.configMapKeyRef ?? source.secretKeyRef
  if (reference === undefined) return err('valueFrom names no source that the lab knows')
  const isSecret = source.secretKeyRef !== undefined
  const name = reference.name ?? ''
  const data = isSecret
    ? decodeSecret((await objects.secret(namespace, name))?.data)
    : (await objects.configMap(namespace, name))?.data
  const value = data?.[reference.key]
  if (value !== undefined) return ok(value)
  if (reference.optional === true) return ok(undefined)
  const what = isSecret ? 'secret' : 'configmap'
  return err(
    data === undefined
      ? `${what} "${name}" not found`
      : `${what} "${name}" has no key "${reference.key}"`,
  )
}

/** The value of a field of the pod, as the downward API names it. */
export function podField(path: string, fields: PodFields): Result<string, string> {
  const { metadata, spec } = fields.pod
  const keyed = /^metadata\.(labels|annotations)\['([^']+)'\]$/.exec(path)
  if (keyed !== null) {
    const [, map, key = ''] = keyed
    return ok((map === 'labels' ? metadata?.labels : metadata?.annotations)?.[key] ?? '')
  }
  switch (path) {
    case 'metadata.name':
      return ok(metadata?.name ?? '')
    case 'metadata.namespace':
      return ok(metadata?.namespace ?? '')
    case 'metadata.uid':
      return ok(metadata?.uid ?? '')
    case 'metadata.labels':
      return ok(keyValueLines(metadata?.labels))
    case 'metadata.annotations':
      return ok(keyValueLines(metadata?.annotations))
    case 'spec.nodeName':
      return ok(spec?.nodeName ?? '')
    case 'spec.serviceAccountName':
      return ok(spec?.serviceAccountName ?? 'default')
    case 'status.hostIP':
      return ok(fields.hostIps[0] ?? '')
    case 'status.hostIPs':
      return ok(fields.hostIps.join(','))
    case 'status.podIP':
      return ok(fields.podIps[0] ?? '')
    case 'status.podIPs':
      return ok(fields.podIps.join(','))
    default:
      return err(`the field path "${path}" is not supported`)
  }
}

function keyValueLines(map: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(map ?? {})
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n')
}

/** A Secret's data as text; binary values lose bytes that are not UTF-8, as in an environment they must. */
function decodeSecret(
  data: Readonly<Record<string, string>> | undefined,
): Record<string, string> | undefined {
  if (data === undefined) return undefined
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [
      key,
      Buffer.from(value, 'base64').toString('utf8'),
    ]),
  )
}

/** Replaces $(NAME) by the variable's value, leaves unknown names as they are, and reads $$ as $. */
export function expand(text: string, environment: Environment): string {
  return text.replace(/\$\$|\$\(([^)]+)\)/g, (whole, name: string | undefined) =>
    name === undefined ? '$' : (environment[name] ?? whole),
  )
}

/** The command line of a container: its command, else its image's, and its args, after expansion. */
export function commandLine(container: Container, environment: Environment): readonly string[] {
  const command = container.command ?? findImage(container.image)?.entrypoint ?? []
  return [...command, ...(container.args ?? [])].map((word) => expand(word, environment))
}
