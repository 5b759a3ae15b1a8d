// SPDX-License-Identifier: Apache-2.0
// Istio's certificate service as grpc-js sees it: one unary method. Shared by the client and the controller's server.

import { grpcMethod } from '../grpc/method.ts'
import { IstioCertificateService } from '../proto/gen/certificate_pb.js'

/** The one method of the certificate service. */
export const CREATE_CERTIFICATE = grpcMethod(IstioCertificateService.method.createCertificate)

/** The service definition, for a grpc-js server. */
export const CERTIFICATE_SERVICE = { createCertificate: CREATE_CERTIFICATE }

/** The key in the request's metadata that names whom a node asks for. */
export const IMPERSONATED_IDENTITY = 'ImpersonatedIdentity'
/** The header that names the caller's cluster. */
export const CLUSTER_ID_HEADER = 'clusterid'
