// SPDX-License-Identifier: Apache-2.0
// Expected failures are values: a Result is either a value or the reason there is none.

export type Ok<T> = { readonly ok: true; readonly value: T }
export type Err<E> = { readonly ok: false; readonly error: E }
export type Result<T, E> = Ok<T> | Err<E>

/** Wraps a success. */
export const ok = <T>(value: T): Ok<T> => ({ ok: true, value })

/** Wraps an expected failure. */
export const err = <E>(error: E): Err<E> => ({ ok: false, error })
