// SPDX-License-Identifier: Apache-2.0
// The start of an agent on a node that another one serves, and its place in the line after that: the successor prepares (mesh state,
// policies, certificates), takes the pods over in one go, and only then is the predecessor told to let go. So no call of any pod meets an
// agent that cannot serve it.

import { delay } from '../mesh/async/backoff.ts'
import { errorMessage } from '../mesh/errors.ts'
import type { CertificateManager } from '../mesh/identity/certificate-manager.ts'
import type { SpiffeId } from '../mesh/model/types.ts'
import { VERSION } from '../mesh/program/version.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import type { NodeCapture } from './capture/index.ts'
import type { AgentServers } from './admin/start-servers.ts'
import { Succession, type Predecessor } from './handover/index.ts'
import type { NodeDuties } from './node-duties.ts'
import type { WorkerPool } from './proxy/worker/worker-pool.ts'
import type { Starting } from './starting.ts'

/** After which who is waited for is told. Milliseconds. */
const PATIENCE_MS = 10_000
/** Between two questions to the predecessor whether it still has what is refused here. Milliseconds. */
const AGAIN_MS = 1_000

export interface PreparedParts {
  readonly certificates: CertificateManager
  /** Resolves when the control plane has told of everything. */
  readonly meshSynced: Promise<void>
}

/** Certificates that are kept for the pods to come. */
export interface Prepared {
  /** The pods are served: those of others are forgotten. */
  readonly release: () => void
}

/**
 * Resolves when this agent can serve the predecessor's pods, however long the control plane and the authority let it wait: until then
 * nobody serves them better; or when the predecessor is gone. Rejects with the signal's reason when the start is given up.
 */
export async function prepare(
  { log }: Starting,
  predecessor: Predecessor,
  { certificates, meshSynced }: PreparedParts,
  signal: AbortSignal,
): Promise<Prepared> {
  const given = Promise.withResolvers<never>()
  given.promise.catch(() => undefined)
  const giveUp = (): void => given.reject(signal.reason)
  if (signal.aborted) giveUp()
  signal.addEventListener('abort', giveUp)
  const gone = new Promise<void>((resolve) => {
    // It may have gone, and this start be given up, while the parts were being made.
    if (predecessor.gone.aborted) resolve()
    predecessor.gone.addEventListener('abort', () => resolve(), { once: true })
  })
  const waiting = new AbortController()
  const kept = new Set<SpiffeId>()
  try {
    const patience = AbortSignal.any([signal, waiting.signal])
    const ready = warmUp(log, predecessor, { certificates, meshSynced, kept }, patience)
    await Promise.race([given.promise, ready, gone])
    if (predecessor.gone.aborted)
      log.warn('the predecessor is gone: this agent takes the node over as it is')
  } finally {
    waiting.abort()
    signal.removeEventListener('abort', giveUp)
  }
  return {
    release: () => {
      for (const identity of kept) certificates.release(identity)
    },
  }
}

interface WarmUpParts extends PreparedParts {
  /** Those that are asked for. Whoever serves the pods retains them, too. */
  readonly kept: Set<SpiffeId>
}

/**
 * Asks for the certificates of all pods, and waits for those that the predecessor has: until this agent has one, too, HBONE to that pod
 * would hang here. Pods come and go meanwhile, and one that is refused may be gone: so the predecessor is asked again, before this agent
 * is ready, and as long as it lacks one. Of a predecessor that cannot be asked, what is refused is not waited for.
 */
async function warmUp(
  log: Logger,
  predecessor: Predecessor,
  { certificates, meshSynced, kept }: WarmUpParts,
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted) return
  const missing = (): readonly SpiffeId[] =>
    predecessor.certified.filter((identity) => certificates.current(identity) === undefined)
  const keepAll = (): void => {
    for (const identity of predecessor.identities) {
      if (!kept.has(identity)) certificates.retain(identity)
      kept.add(identity)
    }
  }
  let told = ''
  const telling = setInterval(() => {
    const identities = missing()
    const text = identities.join()
    if (text !== '' && text !== told)
      log.warn(
        { identities },
        'the predecessor goes on until there are certificates for these, too',
      )
    told = text
  }, PATIENCE_MS)
  signal.addEventListener('abort', () => clearInterval(telling), { once: true })
  keepAll()
  for (;;) {
    await Promise.all([
      meshSynced,
      ...missing().map((identity) => certificates.get(identity, signal)),
    ])
    if (signal.aborted || !(await predecessor.tellAgain())) return
    keepAll()
    if (missing().length === 0) return
    await delay(AGAIN_MS, signal)
  }
}

export interface SuccessionParts {
  readonly capture: Pick<NodeCapture, 'isSuperseded'>
  readonly pool: WorkerPool
  readonly certificates: Pick<CertificateManager, 'current'>
  readonly servers: AgentServers
  readonly duties: NodeDuties
  readonly socketPath: string
  /** Ends the agent: it cannot do its part any more. */
  readonly quit: () => void
}

/** Puts this agent in charge of the node, for others to follow. Throws AMB_HANDOVER. */
export async function takeCharge(
  { log, started }: Starting,
  { capture, pool, certificates, servers, duties, socketPath, quit }: SuccessionParts,
): Promise<void> {
  /** Half an agent helps nobody: the next start is at once. */
  const orEnd = async (what: string, step: () => Promise<unknown>): Promise<void> => {
    try {
      await step()
    } catch (thrown) {
      log.error({ error: errorMessage(thrown) }, `${what}: this agent ends`)
      quit()
    }
  }
  const takeBack = async (): Promise<void> => {
    // Served without capture, pods would look well and be cut off.
    if (capture.isSuperseded())
      throw new Error('an agent with another layout of the maps has taken its programs off')
    await duties.begin()
  }
  const succession = new Succession({
    socketPath,
    version: VERSION,
    log: log.child({ part: 'handover' }),
    handlers: {
      pods: () => pool.pods(),
      isCertified: (identity) => certificates.current(identity) !== undefined,
      makeRoom: () => orEnd('cannot free the ports', () => servers.close()),
      stay: () => orEnd('cannot have the ports back', () => servers.open()),
      resume: () =>
        orEnd('cannot take back what the successor had begun', async () => {
          if (await duties.isInCharge()) return
          await takeBack()
          await succession.listen()
        }),
      standDown: () =>
        orEnd('cannot stand down', async () => {
          await duties.giveUp()
          // What peers open from now on over the connections that they have would be this agent's.
          await Promise.all(pool.pods().map(({ uid }) => pool.drainPod(uid)))
        }),
      takeBack: () =>
        orEnd('cannot take the node back', async () => {
          await takeBack()
          await servers.open()
          await succession.listen()
        }),
    },
  })
  await succession.listen()
  started.defer(() => succession.close())
}
