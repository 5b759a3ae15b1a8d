// SPDX-License-Identifier: Apache-2.0
// A BPF program run by the kernel on a made-up context.

import { check, loadLibbpf } from '../../../native/libbpf.ts'

/** sizeof(struct bpf_test_run_opts) of libbpf. */
const TEST_RUN_OPTIONS_SIZE = 80

/** What BPF_PROG_TEST_RUN gave back. */
interface TestRunResult {
  readonly returnValue: number
  readonly context: Buffer
}

/** Runs a program once with a made-up context (BPF_PROG_TEST_RUN), for the program types that allow it. */
export function testRun(programFd: number, context: Uint8Array): TestRunResult {
  const contextOut = Buffer.alloc(context.length)
  const options = {
    sz: TEST_RUN_OPTIONS_SIZE,
    data_in: null,
    data_out: null,
    data_size_in: 0,
    data_size_out: 0,
    ctx_in: context,
    ctx_out: contextOut,
    ctx_size_in: context.length,
    ctx_size_out: contextOut.length,
    retval: 0,
    repeat: 1,
    duration: 0,
    flags: 0,
    cpu: 0,
    batch_size: 0,
  }
  check(
    loadLibbpf().bpf_prog_test_run_opts(programFd, options),
    'bpf_prog_test_run_opts',
    `program fd ${programFd}`,
  )
  return { returnValue: options.retval, context: contextOut }
}
