// SPDX-License-Identifier: Apache-2.0
// Turns failures of the native binding into coded errors that name the object and the reason.

import { AmbitError, type ErrorCode, errorMessage } from '../../mesh/errors.ts'
import { NativeError } from '../../native/error.ts'

/** "Cannot <what>: <reason>", with the code that fits the failed call. */
export function toAmbitError(what: string, thrown: unknown): AmbitError {
  if (thrown instanceof AmbitError) return thrown
  return new AmbitError(codeOf(thrown), `Cannot ${what}: ${errorMessage(thrown)}`, {
    cause: thrown,
  })
}

function codeOf(thrown: unknown): ErrorCode {
  if (!(thrown instanceof NativeError)) return 'AMB_SYSCALL'
  if (thrown.call === 'dlopen' || thrown.call === 'dlsym') return 'AMB_LIBBPF_MISSING'
  if (thrown.call.startsWith('bpf_object__')) return 'AMB_BPF_OBJECT'
  return 'AMB_SYSCALL'
}
