// SPDX-License-Identifier: Apache-2.0
// Who owns a namespace: the user namespace it was made in. Whoever makes a user namespace of their own owns whatever they
// make in it, and nothing else.

import { fstatSync } from 'node:fs'
import koffi from 'koffi'
import { NativeError } from './error.ts'
import { closeFd } from './libc.ts'

/** linux/nsfs.h, _IO(0xb7, 0x1) */
const NS_GET_USERNS = 0xb701

let ioctl: ((fd: number, request: number) => number) | undefined

/**
 * Device and inode of the user namespace that owns the namespace. Throws NativeError, with EPERM where that is no
 * descendant of this process's own.
 */
export function ownerOfNamespace(fd: number): { readonly device: number; readonly inode: number } {
  ioctl ??= koffi.load('libc.so.6').func('int ioctl(int fd, unsigned long request)') as (
    fd: number,
    request: number,
  ) => number
  const owner = ioctl(fd, NS_GET_USERNS)
  if (owner < 0) throw new NativeError('ioctl(NS_GET_USERNS)', koffi.errno(), `fd ${fd}`)
  try {
    const { dev, ino } = fstatSync(owner)
    return { device: dev, inode: ino }
  } finally {
    closeFd(owner)
  }
}
