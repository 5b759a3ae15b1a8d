// SPDX-License-Identifier: Apache-2.0
// A control plane for one waypoint, over real gRPC and TLS: signs whatever its token asks for, and offers what a test says.

import { create } from '@bufbuild/protobuf'
import { Server, ServerCredentials, status } from '@grpc/grpc-js'
import type { Test } from 'tap'
import { loadAuthority, type SigningAuthority } from '../../mesh/identity/authority.ts'
import { CERTIFICATE_SERVICE, IMPERSONATED_IDENTITY } from '../../mesh/identity/ca-protocol.ts'
import { createRoot } from '../../mesh/identity/root.ts'
import { spiffeId } from '../../mesh/identity/spiffe.ts'
import type { HttpRoutes } from '../../mesh/model/http-routes.ts'
import type { WaypointPolicy } from '../../mesh/model/waypoint-policy.ts'
import {
  type IstioCertificateRequest,
  IstioCertificateResponseSchema,
} from '../../mesh/proto/gen/certificate_pb.js'
import { err, ok } from '../../mesh/result.ts'
import { addXdsService, type Offer, XDS_SERVER_OPTIONS, XdsServer } from '../../mesh/xds/server.ts'
import { ADDRESS, type AddressResource } from '../../mesh/xds/types/address.ts'
import { HTTP_ROUTES } from '../../mesh/xds/types/http-routes.ts'
import { WAYPOINT_POLICIES } from '../../mesh/xds/types/waypoint-policy.ts'
import { localAuthority } from '../identity/local-authority.ts'
import { makeFiles, makePki, silent, TOKEN } from '../xds/support.ts'

export interface ControlPlane {
  readonly address: string
  readonly rootFile: string
  readonly tokenFile: string
  /** Of the workloads' certificates. */
  readonly authority: SigningAuthority
  readonly addresses: Offer<AddressResource>
  readonly routes: Offer<HttpRoutes>
  readonly policies: Offer<WaypointPolicy>
}

/** Whom the token is of. */
const OWNER = { trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'way' }

/** Starts it; ends with the test. */
export async function startControlPlane(t: Test): Promise<ControlPlane> {
  const pki = await makePki()
  const files = await makeFiles(pki.rootPem, TOKEN)
  const loaded = await loadAuthority(await createRoot({ organization: 'cluster.local' }))
  if (!loaded.ok) throw new Error(loaded.error.reason)
  const authority = loaded.value
  const signer = localAuthority(authority)
  const isTokens = (authorization: unknown): boolean => authorization === `Bearer ${TOKEN}`
  const xds = new XdsServer({
    logger: silent,
    authenticate: (metadata) =>
      Promise.resolve(
        isTokens(metadata.get('authorization')[0])
          ? ok({ name: 'waypoint' })
          : err({ code: status.UNAUTHENTICATED, message: 'bad token' }),
      ),
  })
  const addresses = xds.offer(ADDRESS, () => true)
  const routes = xds.offer(HTTP_ROUTES, () => true)
  const policies = xds.offer(WAYPOINT_POLICIES, () => true)
  const server = new Server(XDS_SERVER_OPTIONS)
  addXdsService(server, xds)
  server.addService(CERTIFICATE_SERVICE, {
    createCertificate: (
      call: {
        readonly request: IstioCertificateRequest
        readonly metadata: { get(name: string): unknown[] }
      },
      callback: (error: object | null, value?: unknown) => void,
    ) => {
      const { csr, validityDuration, metadata } = call.request
      if (
        !isTokens(call.metadata.get('authorization')[0]) ||
        metadata?.[IMPERSONATED_IDENTITY] !== undefined
      )
        return callback({ code: status.PERMISSION_DENIED, details: 'not for you' })
      const request = {
        identity: spiffeId(OWNER),
        csrPem: csr,
        ttlSeconds: Number(validityDuration),
      }
      signer.sign(request, AbortSignal.timeout(5_000)).then(
        (signed) =>
          signed.ok
            ? callback(
                null,
                create(IstioCertificateResponseSchema, {
                  certChain: [signed.value.chainPem, signed.value.rootsPem],
                }),
              )
            : callback({ code: status.INTERNAL, details: signed.error.message }),
        (thrown: unknown) => callback({ code: status.INTERNAL, details: String(thrown) }),
      )
    },
  })
  const credentials = ServerCredentials.createSsl(null, [
    { cert_chain: Buffer.from(pki.certificatePem), private_key: Buffer.from(pki.keyPem) },
  ])
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  )
  t.teardown(async () => {
    xds.stop()
    server.forceShutdown()
    await files.remove()
  })
  return {
    address: `127.0.0.1:${port}`,
    rootFile: files.rootFile,
    tokenFile: files.tokenFile,
    authority,
    addresses,
    routes,
    policies,
  }
}
