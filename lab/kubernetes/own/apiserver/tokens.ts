// SPDX-License-Identifier: Apache-2.0
// Service account tokens: JWTs signed with ES256 (by jose), bound to a pod where one is named, and their review.

import { type KeyObject, generateKeyPairSync, randomUUID } from 'node:crypto'
import { errors, jwtVerify, type JWTPayload, SignJWT } from 'jose'
import { type Result, err, ok } from '../../../../mesh/result.ts'
import { notFound, refuse } from '../../objects/refusals.ts'
import { type Draft, at, record, text } from '../../objects/json.ts'
import type { ResourceTable } from './resource-table.ts'
import type { Store } from './store.ts'
import type { Refusal } from '../../objects/refusals.ts'
import type { JsonObject } from '../../objects/stored-object.ts'

/** Who a request comes from. */
export interface UserInfo {
  readonly username: string
  readonly uid: string
  readonly groups: readonly string[]
  readonly extra: { readonly [key: string]: readonly string[] }
}

export interface TokenRequest {
  readonly namespace: string
  readonly serviceAccount: string
  /** Default: the API server's own audience, https://kubernetes.default.svc.cluster.local. */
  readonly audiences?: readonly string[] | undefined
  readonly expirationSeconds?: number | undefined
  readonly pod?: { readonly name: string; readonly uid: string } | undefined
}

export interface IssuedToken {
  readonly token: string
  readonly expirationTimestamp: string
}

const DEFAULT_LIFETIME_SECONDS = 3600
/** Kubernetes refuses shorter ones. */
const MIN_LIFETIME_SECONDS = 600
const MAX_LIFETIME_SECONDS = 2 ** 32
const MS_PER_SECOND = 1000
const ALGORITHM = 'ES256'

const nowSeconds = (): number => Math.floor(Date.now() / MS_PER_SECOND)

export class TokenAuthority {
  readonly issuer: string
  readonly #keyId = randomUUID()
  readonly #privateKey: KeyObject
  readonly #publicKey: KeyObject
  readonly #store: Store
  readonly #resources: ResourceTable

  constructor(issuer: string, store: Store, resources: ResourceTable) {
    const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    this.#privateKey = keys.privateKey
    this.#publicKey = keys.publicKey
    this.issuer = issuer
    this.#store = store
    this.#resources = resources
  }

  /** Issues a token for a service account that exists, bound to a pod that runs as it. */
  async issue(request: TokenRequest): Promise<Result<IssuedToken, Refusal>> {
    const { namespace, serviceAccount: name, pod } = request
    const accounts = this.#resources.byId('serviceaccounts')
    const pods = this.#resources.byId('pods')
    const account = this.#store.get('serviceaccounts', namespace, name)
    if (account === undefined && accounts !== undefined) return notFound(accounts, name)
    const lifetime = request.expirationSeconds ?? DEFAULT_LIFETIME_SECONDS
    if (lifetime < MIN_LIFETIME_SECONDS || lifetime > MAX_LIFETIME_SECONDS)
      return refuse(
        422,
        'Invalid',
        `TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: ${lifetime}: may not specify a duration less than 10 minutes`,
      )
    let node: string | undefined
    if (pod !== undefined) {
      const stored = this.#store.get('pods', namespace, pod.name)
      if (stored === undefined && pods !== undefined) return notFound(pods, pod.name)
      if (pod.uid !== '' && stored?.metadata.uid !== pod.uid)
        return refuse(
          409,
          'Conflict',
          `Operation cannot be fulfilled on pods "${pod.name}": the UID in the bound object reference (${pod.uid}) does not match the UID in record. The object might have been deleted and then recreated`,
        )
      if (stored?.spec?.serviceAccountName !== name)
        return refuse(
          400,
          'BadRequest',
          `cannot bind token for serviceaccount "${name}" to pod running with different serviceaccount name.`,
        )
      node = text(stored.spec.nodeName)
    }
    const podUid = pod === undefined ? undefined : this.#uid('pods', namespace, pod.name)
    const issuedAt = nowSeconds()
    const expiresAt = issuedAt + lifetime
    const claims: JWTPayload = {
      aud: [...(request.audiences ?? [this.issuer])],
      exp: expiresAt,
      iat: issuedAt,
      nbf: issuedAt,
      iss: this.issuer,
      jti: randomUUID(),
      sub: `system:serviceaccount:${namespace}:${name}`,
      'kubernetes.io': {
        namespace,
        serviceaccount: { name, uid: account?.metadata.uid },
        ...(pod === undefined ? {} : { pod: { name: pod.name, uid: podUid } }),
        ...(node === undefined
          ? {}
          : { node: { name: node, uid: this.#uid('nodes', undefined, node) } }),
      },
    }
    const header = { alg: ALGORITHM, kid: this.#keyId, typ: 'JWT' }
    const token = await new SignJWT(claims).setProtectedHeader(header).sign(this.#privateKey)
    return ok({
      token,
      expirationTimestamp: new Date(expiresAt * MS_PER_SECOND)
        .toISOString()
        .replace(/\.\d+Z$/, 'Z'),
    })
  }

  /** Who holds the token, if it is genuine, current, for one of the audiences, and what it is bound to exists. */
  async review(
    token: string,
    audiences: readonly string[],
  ): Promise<Result<{ readonly user: UserInfo; readonly audiences: readonly string[] }, string>> {
    const verified = await this.#verify(token)
    if (!verified.ok) return verified
    const claims = verified.value
    const accepted = [claims.aud ?? []].flat().filter((audience) => audiences.includes(audience))
    if (accepted.length === 0)
      return err(
        `token audiences ${JSON.stringify(claims.aud)} is invalid for the target audiences ${JSON.stringify(audiences)}`,
      )
    const user = this.#userOf(record(claims['kubernetes.io']) ?? {}, claims.jti ?? '')
    return user.ok ? ok({ user: user.value, audiences: accepted }) : user
  }

  /** The public key for clients that verify tokens themselves. */
  jwks(): JsonObject {
    const jwk = this.#publicKey.export({ format: 'jwk' })
    return {
      keys: [
        {
          use: 'sig',
          alg: 'ES256',
          kid: this.#keyId,
          kty: jwk.kty ?? 'EC',
          crv: jwk.crv ?? 'P-256',
          x: jwk.x ?? '',
          y: jwk.y ?? '',
        },
      ],
    }
  }

  #uid(resource: string, namespace: string | undefined, name: string): string | undefined {
    return this.#store.get(resource, namespace, name)?.metadata.uid
  }

  async #verify(token: string): Promise<Result<JWTPayload, string>> {
    try {
      const options = {
        algorithms: [ALGORITHM],
        issuer: this.issuer,
        requiredClaims: ['exp'],
        currentDate: new Date(Date.now()),
      }
      return ok((await jwtVerify(token, this.#publicKey, options)).payload)
    } catch (thrown) {
      if (thrown instanceof errors.JWTExpired) return err('service account token has expired')
      if (thrown instanceof errors.JWSSignatureVerificationFailed)
        return err('the signature of the token is not valid')
      if (thrown instanceof errors.JOSEError) return err('the token is not a service account token')
      throw thrown
    }
  }

  #userOf(claims: Draft, tokenId: string): Result<UserInfo, string> {
    const namespace = text(claims.namespace) ?? ''
    const account = text(at(claims, 'serviceaccount', 'name')) ?? ''
    const accountUid = text(at(claims, 'serviceaccount', 'uid')) ?? ''
    if (this.#uid('serviceaccounts', namespace, account) !== accountUid)
      return err('service account token has been invalidated')
    const extra: { [key: string]: readonly string[] } = {
      'authentication.kubernetes.io/credential-id': [`JTI=${tokenId}`],
    }
    const pod = text(at(claims, 'pod', 'name'))
    const podUid = text(at(claims, 'pod', 'uid'))
    if (pod !== undefined && podUid !== undefined) {
      if (this.#uid('pods', namespace, pod) !== podUid)
        return err('service account token has been invalidated')
      extra['authentication.kubernetes.io/pod-name'] = [pod]
      extra['authentication.kubernetes.io/pod-uid'] = [podUid]
    }
    const node = text(at(claims, 'node', 'name'))
    const nodeUid = text(at(claims, 'node', 'uid'))
    if (node !== undefined) extra['authentication.kubernetes.io/node-name'] = [node]
    if (nodeUid !== undefined) extra['authentication.kubernetes.io/node-uid'] = [nodeUid]
    return ok({
      username: `system:serviceaccount:${namespace}:${account}`,
      uid: accountUid,
      groups: [
        'system:serviceaccounts',
        `system:serviceaccounts:${namespace}`,
        'system:authenticated',
      ],
      extra,
    })
  }
}
