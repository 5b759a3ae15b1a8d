// SPDX-License-Identifier: Apache-2.0
// The one gRPC method of the conformance suite's workload, /proto.EchoTestService/Echo. Request and answer are one message, with one
// string as field 1.

import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { makeGenericClientConstructor, type MethodDefinition } from '@grpc/grpc-js'

const MESSAGE_FIELD = 1

function encode(message: string): Buffer {
  const writer = new BinaryWriter().tag(MESSAGE_FIELD, WireType.LengthDelimited).string(message)
  return Buffer.from(writer.finish())
}

function decode(bytes: Uint8Array): string {
  const reader = new BinaryReader(bytes)
  let message = ''
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag()
    if (field === MESSAGE_FIELD) message = reader.string()
    else reader.skip(wireType, field)
  }
  return message
}

/** The method, for server and client alike. */
export const ECHO_METHOD: MethodDefinition<string, string> = {
  path: '/proto.EchoTestService/Echo',
  requestStream: false,
  responseStream: false,
  requestSerialize: encode,
  requestDeserialize: decode,
  responseSerialize: encode,
  responseDeserialize: decode,
}

/** A client of the service: call it with makeUnaryRequest and the fields of ECHO_METHOD. */
export const EchoClient = makeGenericClientConstructor({ echo: ECHO_METHOD }, 'EchoTestService')
