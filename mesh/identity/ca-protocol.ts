// SPDX-License-Identifier: Apache-2.0
// Istio's certificate service as grpc-js sees it: one unary method. Shared by the client and the controller's server.

import { fromBinary, toBinary } from '@bufbuild/protobuf'
import type { MethodDefinition } from '@grpc/grpc-js'
import {
  type IstioCertificateRequest,
  IstioCertificateRequestSchema,
  type IstioCertificateResponse,
  IstioCertificateResponseSchema,
  IstioCertificateService,
} from '../proto/gen/certificate_pb.js'

/** The one method of the certificate service. */
export const CREATE_CERTIFICATE: MethodDefinition<
  IstioCertificateRequest,
  IstioCertificateResponse
> = {
  path: `/${IstioCertificateService.typeName}/CreateCertificate`,
  requestStream: false,
  responseStream: false,
  requestSerialize: (message) => Buffer.from(toBinary(IstioCertificateRequestSchema, message)),
  requestDeserialize: (bytes) => fromBinary(IstioCertificateRequestSchema, bytes),
  responseSerialize: (message) => Buffer.from(toBinary(IstioCertificateResponseSchema, message)),
  responseDeserialize: (bytes) => fromBinary(IstioCertificateResponseSchema, bytes),
}

/** The service definition, for a grpc-js server. */
export const CERTIFICATE_SERVICE = { createCertificate: CREATE_CERTIFICATE }

/** The key in the request's metadata that names whom a node asks for. */
export const IMPERSONATED_IDENTITY = 'ImpersonatedIdentity'
/** The header that names the caller's cluster. */
export const CLUSTER_ID_HEADER = 'clusterid'
