// SPDX-License-Identifier: Apache-2.0
// The first stop of every request: authentication, then the document or the resource its path names.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { timingSafeEqual } from 'node:crypto'
import { type Result, err, ok } from '../../../../../mesh/result.ts'
import {
  KUBERNETES_VERSION,
  aggregated,
  coreVersions,
  groupDocument,
  groupList,
  resourceList,
} from '../discovery.ts'
import { methodNotAllowed, refuse, unauthorized, unknownPath } from '../../../objects/refusals.ts'
import { record } from '../../../objects/json.ts'
import {
  EMPTY_OPENAPI_V2,
  OPENAPI_V2_MEDIA_TYPE,
  openApiDocument,
  openApiIndex,
} from '../openapi.ts'
import { REVIEW_TYPES } from '../resource-table.ts'
import type { UserInfo } from '../tokens.ts'
import type { Refusal } from '../../../objects/refusals.ts'
import type { JsonObject } from '../../../objects/stored-object.ts'
import { type PodStreams, isPodStream } from './pod-streams.ts'
import { type ResourcePath, bearerToken, parseResourcePath, readObject } from './request.ts'
import { type ResourceServices, handleResource } from './resource-handler.ts'
import { sendFailure, sendJson, sendText } from './respond.ts'
import { answerReview } from './reviews.ts'

export type RouterServices = ResourceServices & {
  readonly adminToken: string
  readonly podStreams: PodStreams
}

const ADMIN: UserInfo = {
  username: 'ambit-lab-admin',
  uid: 'ambit-lab-admin',
  groups: ['system:masters', 'system:authenticated'],
  extra: {},
}

/** Anybody may ask whether the server lives and what it speaks. */
const PUBLIC_PATHS = new Set(['/healthz', '/livez', '/readyz', '/version'])

function isAdminToken(token: string, adminToken: string): boolean {
  const [given, wanted] = [Buffer.from(token), Buffer.from(adminToken)]
  return given.length === wanted.length && timingSafeEqual(given, wanted)
}

export class Router {
  readonly #services: RouterServices

  constructor(services: RouterServices) {
    this.#services = services
  }

  /** Who sends the request; without a valid bearer token, nobody does. */
  async authenticate(request: IncomingMessage): Promise<Result<UserInfo, Refusal>> {
    const token = bearerToken(request)
    if (!token.ok) return unauthorized()
    const known = await this.#authenticateToken(token.value, [this.#services.tokens.issuer])
    return known.ok ? ok(known.value.user) : unauthorized()
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'https://localhost')
    const path = url.pathname
    if (PUBLIC_PATHS.has(path)) return this.#publicDocument(path, response)
    const user = await this.authenticate(request)
    if (!user.ok) return sendFailure(response, user.error)

    const resourcePath = parseResourcePath(path)
    if (resourcePath !== undefined) {
      const review = REVIEW_TYPES.find(
        (type) => type.group === resourcePath.group && type.plural === resourcePath.plural,
      )
      if (review !== undefined) return this.#review(review.kind, request, response, user.value)
      if (isPodStream(resourcePath))
        return this.#services.podStreams.handle(request, response, resourcePath, url.searchParams)
      return handleResource(this.#services, request, response, resourcePath, url.searchParams)
    }
    this.#document(request, response, path)
  }

  /** An upgrade to a WebSocket: exec only. */
  async handleUpgrade(request: IncomingMessage, socket: Socket): Promise<void> {
    const url = new URL(request.url ?? '/', 'https://localhost')
    const path: ResourcePath | undefined = parseResourcePath(url.pathname)
    const user = await this.authenticate(request)
    const { podStreams } = this.#services
    if (!user.ok) return podStreams.refuseUpgrade(socket, user.error)
    if (path === undefined || !isPodStream(path))
      return podStreams.refuseUpgrade(socket, unknownPath().error)
    return podStreams.upgrade(request, socket, path, url.searchParams)
  }

  async #authenticateToken(token: string, audiences: readonly string[]) {
    if (isAdminToken(token, this.#services.adminToken)) return ok({ user: ADMIN, audiences })
    return this.#services.tokens.review(token, audiences)
  }

  #publicDocument(path: string, response: ServerResponse): void {
    if (path === '/version')
      return sendJson(response, 200, {
        ...KUBERNETES_VERSION,
        gitCommit: '',
        gitTreeState: 'clean',
        buildDate: '1970-01-01T00:00:00Z',
        goVersion: '',
        compiler: '',
        platform: 'linux/amd64',
      })
    sendText(response, 200, 'ok', 'text/plain; charset=utf-8')
  }

  async #review(
    kind: string,
    request: IncomingMessage,
    response: ServerResponse,
    user: UserInfo,
  ): Promise<void> {
    if (request.method !== 'POST') return sendFailure(response, methodNotAllowed().error)
    const body = await readObject(request)
    const answer = body.ok
      ? await answerReview(
          kind,
          record(body.value),
          user,
          this.#services.tokens,
          (token, audiences) => this.#authenticateToken(token, audiences),
        )
      : err(body.error)
    if (answer.ok) sendJson(response, 201, answer.value)
    else sendFailure(response, answer.error)
  }

  #document(request: IncomingMessage, response: ServerResponse, path: string): void {
    if (request.method !== 'GET') return sendFailure(response, methodNotAllowed().error)
    if (path === '/api' || path === '/apis') {
      const document = aggregated(this.#resources, request.headers.accept, path === '/api')
      if (document !== undefined)
        return sendText(response, 200, JSON.stringify(document.body), document.contentType)
    }
    // kubectl falls back to version 2, in protobuf, for kinds that version 3 does not know.
    if (path === '/openapi/v2')
      return sendText(response, 200, EMPTY_OPENAPI_V2, OPENAPI_V2_MEDIA_TYPE)
    const document = this.#plainDocument(path)
    if (document === undefined) sendFailure(response, unknownPath().error)
    else sendJson(response, 200, document)
  }

  get #resources() {
    return this.#services.registry.context.resources
  }

  #plainDocument(path: string): JsonObject | undefined {
    const resources = this.#resources
    const segments = path.split('/').filter((segment) => segment !== '')
    const [first = '', second, third, ...rest] = segments
    if (first === 'openapi' && second === 'v3')
      return third === undefined
        ? openApiIndex(resources)
        : openApiDocument(resources, [third, ...rest].join('/'))
    if (path === '/openid/v1/jwks') return this.#services.tokens.jwks()
    if (path === '/.well-known/openid-configuration')
      return {
        issuer: this.#services.tokens.issuer,
        jwks_uri: `${this.#services.tokens.issuer}/openid/v1/jwks`,
        response_types_supported: ['id_token'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['ES256'],
      }
    if (rest.length > 0) return undefined
    if (first === 'api')
      return second === undefined
        ? coreVersions()
        : third === undefined
          ? resourceList(resources, '', second)
          : undefined
    if (first !== 'apis') return undefined
    if (second === undefined) return groupList(resources)
    return third === undefined
      ? groupDocument(resources, second)
      : resourceList(resources, second, third)
  }
}

/** What a request gets whose handling threw: a bug, told as such. */
export const internalError = (message: string): Refusal =>
  refuse(500, 'InternalError', `Internal error occurred: ${message}`).error
