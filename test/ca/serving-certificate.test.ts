// SPDX-License-Identifier: Apache-2.0
// The controller's own certificate when the authority changes while one is being made.

import t from 'tap'
import type { Authority } from '../../controller/ca/authority-source.ts'
import { ServingCertificate } from '../../controller/ca/serving-certificate.ts'
import type { SigningAuthority } from '../../mesh/identity/authority.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { FakeClock } from '../identity/fake-clock.ts'

/** An authority that signs when it is told to. */
function slowAuthority(name: string) {
  const asked = Promise.withResolvers<void>()
  const answer = Promise.withResolvers<string>()
  const authority: Pick<SigningAuthority, 'sign'> = {
    sign: () => {
      asked.resolve()
      return answer.promise
    },
  }
  return { authority, asked: asked.promise, sign: () => answer.resolve(name) }
}

void t.test('a renewal that another overtook is not shown', async (t) => {
  const [old, next] = [slowAuthority('signed by the old one'), slowAuthority('by the new one')]
  let current = old.authority
  let onChange = (): void => undefined
  const authority = {
    get current() {
      return current
    },
    onChange: (listener: () => void) => {
      onChange = listener
      return () => undefined
    },
    // Of an authority only this much is asked here.
  } as unknown as Authority
  const clock = new FakeClock()
  const serving = new ServingCertificate(authority, {
    names: [],
    clock,
    log: createLogger('test', 'silent'),
  })
  t.teardown(() => serving.close())
  const shown: string[] = []
  const renewed = Promise.withResolvers<void>()
  serving.onRenewed(() => {
    shown.push('renewed')
    renewed.resolve()
  })
  const starting = serving.start()
  await old.asked
  current = next.authority
  onChange()
  clock.advance(0)
  await next.asked
  next.sign()
  await renewed.promise
  old.sign()
  await starting
  t.same(shown, ['renewed'], 'once: what the old authority signed came too late')
})
