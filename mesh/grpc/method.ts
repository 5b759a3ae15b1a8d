// SPDX-License-Identifier: Apache-2.0
// Glue between generated protobuf descriptors and grpc-js: turns a method descriptor into the definition
// grpc-js wants, so that no second description of the same service exists.

import type { MethodDefinition } from '@grpc/grpc-js'
import {
  type DescMessage,
  type DescMethod,
  type MessageShape,
  fromBinary,
  toBinary,
} from '@bufbuild/protobuf'

/**
 * Gives one method as grpc-js describes methods: for `client.makeUnaryRequest` and friends, and, under the method's name,
 * for `server.addService`.
 *
 * @example
 *   const method = grpcMethod(IstioCertificateService.method.createCertificate)
 *   client.makeUnaryRequest(method.path, method.requestSerialize, method.responseDeserialize, request, metadata, callback)
 */
export function grpcMethod<I extends DescMessage, O extends DescMessage>(
  method: DescMethod & { readonly input: I; readonly output: O },
): MethodDefinition<MessageShape<I>, MessageShape<O>> {
  const kind = method.methodKind
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: kind === 'client_streaming' || kind === 'bidi_streaming',
    responseStream: kind === 'server_streaming' || kind === 'bidi_streaming',
    requestSerialize: grpcSerializer(method.input),
    requestDeserialize: grpcDeserializer(method.input),
    responseSerialize: grpcSerializer(method.output),
    responseDeserialize: grpcDeserializer(method.output),
  }
}

/** Encodes a message of this schema for grpc-js. */
function grpcSerializer<S extends DescMessage>(schema: S) {
  return (message: MessageShape<S>): Buffer => {
    const bytes = toBinary(schema, message)
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }
}

/** Decodes a message of this schema from grpc-js. */
function grpcDeserializer<S extends DescMessage>(schema: S) {
  return (bytes: Buffer): MessageShape<S> => fromBinary(schema, bytes)
}
