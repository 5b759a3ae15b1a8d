// SPDX-License-Identifier: Apache-2.0
// Makes a pod's volumes as directories and files on the host, ready to be bind-mounted into its containers,
// and keeps those that come from API objects current.

import {
  chmod,
  chown,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { V1KeyToPath, V1Volume, V1VolumeProjection } from '@kubernetes/client-node'
import type { KubeApi } from '../../mesh/kube/api.ts'
import { defineResource, type KubeObject, type Wire } from '../../mesh/kube/resources.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { SECRET_FILE_MODE } from '../machine/layout.ts'
import { podField, type PodFields } from './environment.ts'
import type { ObjectCache } from './object-cache.ts'
import { type FileAccess, tokenAccess } from './pod-user.ts'

export type Volume = Wire<V1Volume>

type TokenRequestObject = KubeObject & {
  readonly spec: {
    readonly audiences?: readonly string[]
    readonly expirationSeconds: number
    readonly boundObjectRef: object
  }
  readonly status?: { readonly token?: string; readonly expirationTimestamp?: string }
}

const TOKEN_OWNERS = defineResource<TokenRequestObject>('', 'v1', 'serviceaccounts', 'TokenRequest')

/** A bound token is replaced when this part of its life is over, as the kubelet does. */
const TOKEN_REFRESH_AT = 0.8
const DEFAULT_TOKEN_SECONDS = 3600
const DEFAULT_FILE_MODE = 0o644

/** One file of a volume. */
interface VolumeFile {
  readonly path: string
  readonly data: Buffer
  readonly access: FileAccess
}
type Files = Result<readonly VolumeFile[], string>

interface CachedToken {
  readonly token: string
  readonly refreshAtMs: number
}

export class PodVolumes {
  readonly #directory: string
  readonly #api: KubeApi
  readonly #objects: ObjectCache
  readonly #tokens = new Map<string, CachedToken>()
  #syncing: Promise<unknown> = Promise.resolve()

  /** `directory` is the pod's own place for volumes. */
  constructor(directory: string, api: KubeApi, objects: ObjectCache) {
    this.#directory = directory
    this.#api = api
    this.#objects = objects
  }

  /** The host path behind a volume. */
  pathOf(volume: Volume): string {
    return volume.hostPath?.path ?? join(this.#directory, volume.name)
  }

  /** Makes or refreshes every volume of the pod; the error says which cannot be made and why. */
  async sync(fields: PodFields): Promise<Result<void, string>> {
    // One at a time: containers that start together and a refresh would write the same files.
    const result = this.#syncing.then(() => this.#syncAll(fields))
    this.#syncing = result.catch(() => undefined)
    return await result
  }

  /** Resolves when no sync is under way. */
  async settled(): Promise<void> {
    await this.#syncing
  }

  async #syncAll(fields: PodFields): Promise<Result<void, string>> {
    for (const volume of fields.pod.spec?.volumes ?? []) {
      const result = await this.#syncVolume(volume, fields)
      if (!result.ok) return err(`volume "${volume.name}": ${result.error}`)
    }
    return ok(undefined)
  }

  /** When the next token is due for refresh, in ms of the epoch; undefined without tokens. */
  nextRefreshMs(): number | undefined {
    const times = [...this.#tokens.values()].map((token) => token.refreshAtMs)
    return times.length === 0 ? undefined : Math.min(...times)
  }

  async #syncVolume(volume: Volume, fields: PodFields): Promise<Result<void, string>> {
    const directory = this.pathOf(volume)
    if (volume.hostPath !== undefined) return await prepareHostPath(directory, volume.hostPath.type)
    if (volume.emptyDir !== undefined) {
      await mkdir(directory, { recursive: true })
      await chmod(directory, 0o777) // any user of the pod's containers may write, as in Kubernetes
      return ok(undefined)
    }
    const files = await this.#filesOf(volume, fields)
    if (!files.ok) return files
    await writeFiles(directory, files.value)
    return ok(undefined)
  }

  async #filesOf(volume: Volume, fields: PodFields): Promise<Files> {
    const { configMap, secret, projected, downwardAPI } = volume
    if (configMap !== undefined) {
      return await this.#projection({ configMap }, fields, configMap.defaultMode)
    }
    if (secret !== undefined) {
      const { secretName, ...rest } = secret
      const source = { ...rest, ...(secretName === undefined ? {} : { name: secretName }) }
      return await this.#projection({ secret: source }, fields, secret.defaultMode)
    }
    if (downwardAPI !== undefined) {
      return await this.#projection({ downwardAPI }, fields, downwardAPI.defaultMode)
    }
    if (projected === undefined) {
      return err(
        'only configMap, secret, projected, downwardAPI, emptyDir and hostPath are supported',
      )
    }
    const all: VolumeFile[] = []
    for (const source of projected.sources ?? []) {
      const files = await this.#projection(source, fields, projected.defaultMode)
      if (!files.ok) return files
      all.push(...files.value)
    }
    return ok(all)
  }

  async #projection(
    source: Wire<V1VolumeProjection>,
    fields: PodFields,
    defaultMode: number | undefined,
  ): Promise<Files> {
    const namespace = fields.pod.metadata?.namespace ?? 'default'
    const mode = defaultMode ?? DEFAULT_FILE_MODE
    if (source.serviceAccountToken !== undefined) {
      const { path, audience, expirationSeconds } = source.serviceAccountToken
      const seconds = expirationSeconds ?? DEFAULT_TOKEN_SECONDS
      const token = await this.#token(fields, path, audience, seconds)
      if (!token.ok) return token
      return ok([{ path, data: Buffer.from(token.value), access: tokenAccess(fields.pod, mode) }])
    }
    if (source.downwardAPI !== undefined) {
      const files: VolumeFile[] = []
      for (const item of source.downwardAPI.items ?? []) {
        if (item.fieldRef === undefined) return err(`${item.path}: only fieldRef is supported`)
        const value = podField(item.fieldRef.fieldPath, fields)
        if (!value.ok) return err(`${item.path}: ${value.error}`)
        const own = rootsFile(item.mode ?? mode)
        files.push({ path: item.path, data: Buffer.from(value.value), access: own })
      }
      return ok(files)
    }
    if (source.configMap !== undefined) {
      const { name = '', items, optional } = source.configMap
      const found = await this.#objects.configMap(namespace, name)
      if (found === undefined)
        return optional === true ? ok([]) : err(`configmap "${name}" not found`)
      const data = new Map([
        ...Object.entries(found.data ?? {}).map(([k, text]) => [k, Buffer.from(text)] as const),
        ...Object.entries(found.binaryData ?? {}).map(
          ([k, text]) => [k, Buffer.from(text, 'base64')] as const,
        ),
      ])
      return pick(data, items, mode, optional === true, `configmap "${name}"`)
    }
    if (source.secret !== undefined) {
      const { name = '', items, optional } = source.secret
      const found = await this.#objects.secret(namespace, name)
      if (found === undefined) return optional === true ? ok([]) : err(`secret "${name}" not found`)
      const data = new Map(
        Object.entries(found.data ?? {}).map(
          ([k, text]) => [k, Buffer.from(text, 'base64')] as const,
        ),
      )
      return pick(data, items, mode, optional === true, `secret "${name}"`)
    }
    return err('a projected source must be serviceAccountToken, configMap, secret or downwardAPI')
  }

  async #token(
    fields: PodFields,
    path: string,
    audience: string | undefined,
    expirationSeconds: number,
  ): Promise<Result<string, string>> {
    const cached = this.#tokens.get(path)
    if (cached !== undefined && Date.now() < cached.refreshAtMs) return ok(cached.token)
    const { namespace = 'default', name = '', uid = '' } = fields.pod.metadata ?? {}
    const account = fields.pod.spec?.serviceAccountName ?? 'default'
    const request: TokenRequestObject = {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      metadata: { namespace, name: account },
      spec: {
        expirationSeconds,
        ...(audience === undefined ? {} : { audiences: [audience] }),
        boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
      },
    }
    const answer = await this.#api.create(TOKEN_OWNERS, request, { subresource: 'token' })
    if (!answer.ok) return err(answer.error.message)
    const token = answer.value.status?.token
    if (token === undefined) return err(`no token came for service account "${account}"`)
    const refreshAtMs = Date.now() + expirationSeconds * 1000 * TOKEN_REFRESH_AT
    this.#tokens.set(path, { token, refreshAtMs })
    return ok(token)
  }
}

/** Secrets and settings: root's, with the mode that the volume asks for. */
function rootsFile(mode: number): FileAccess {
  return { mode, uid: 0, gid: 0 }
}

function pick(
  data: ReadonlyMap<string, Buffer>,
  items: readonly Wire<V1KeyToPath>[] | undefined,
  mode: number,
  isOptional: boolean,
  what: string,
): Files {
  if (items === undefined)
    return ok([...data].map(([path, bytes]) => ({ path, data: bytes, access: rootsFile(mode) })))
  const files: VolumeFile[] = []
  for (const item of items) {
    const bytes = data.get(item.key)
    if (bytes !== undefined) {
      files.push({ path: item.path, data: bytes, access: rootsFile(item.mode ?? mode) })
    } else if (!isOptional) return err(`${what} has no key "${item.key}"`)
  }
  return ok(files)
}

/** Each file is replaced by renaming, so that a reader sees the old or the new content, never half of one. */
async function writeFiles(directory: string, files: readonly VolumeFile[]): Promise<void> {
  await mkdir(directory, { recursive: true })
  const wanted = new Set(files.map((file) => file.path.split('/')[0]))
  for (const present of await readdir(directory)) {
    if (!wanted.has(present)) await rm(join(directory, present), { recursive: true, force: true })
  }
  for (const file of files) {
    const path = join(directory, file.path)
    const isSame = await readFile(path).then(
      (present) => present.equals(file.data),
      () => false,
    )
    if (isSame) continue
    await mkdir(dirname(path), { recursive: true })
    const temporary = join(dirname(path), `.${process.pid}.new`)
    // Root's until it is whose it shall be.
    await writeFile(temporary, file.data, { mode: SECRET_FILE_MODE })
    await chown(temporary, file.access.uid, file.access.gid)
    await chmod(temporary, file.access.mode)
    await rename(temporary, path)
  }
}

/** Checks or makes what a hostPath volume names, by its type. */
async function prepareHostPath(path: string, type = ''): Promise<Result<void, string>> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) {
    if (type === 'DirectoryOrCreate' || type === '') {
      await mkdir(path, { recursive: true })
      return ok(undefined)
    }
    if (type === 'FileOrCreate') {
      await writeFile(path, '', { flag: 'a' })
      return ok(undefined)
    }
    return err(`hostPath ${path} does not exist`)
  }
  const isRight =
    type === '' ||
    (type.startsWith('Directory') && found.isDirectory()) ||
    (type.startsWith('File') && found.isFile()) ||
    (type === 'Socket' && found.isSocket()) ||
    (type === 'CharDevice' && found.isCharacterDevice()) ||
    (type === 'BlockDevice' && found.isBlockDevice())
  return isRight ? ok(undefined) : err(`hostPath ${path} is not of type ${type}`)
}
