// SPDX-License-Identifier: Apache-2.0
// The arithmetic of a rolling update, free of any API: how many replicas each ReplicaSet should have next.

/** A ReplicaSet as the rollout sees it. */
export interface SetSize {
  readonly id: string
  readonly replicas: number
  readonly available: number
  /** Pods that exist, whatever the set asks for now. */
  readonly current: number
}

export interface RolloutGoal {
  readonly replicas: number
  readonly maxSurge: number
  readonly maxUnavailable: number
  readonly isRecreate: boolean
}

/** maxSurge and maxUnavailable as numbers of pods, from numbers or percentages. */
export function resolveLimits(
  replicas: number,
  maxSurge: unknown,
  maxUnavailable: unknown,
): { readonly maxSurge: number; readonly maxUnavailable: number } {
  const resolve = (value: unknown, round: (share: number) => number): number => {
    if (typeof value === 'number') return Math.max(0, Math.floor(value))
    const percent = /^(\d+)%$/.exec(String(value))?.[1]
    return percent === undefined ? 0 : round((Number(percent) * replicas) / 100)
  }
  const surge = resolve(maxSurge, Math.ceil)
  const unavailable = resolve(maxUnavailable, Math.floor)
  // With neither, nothing could ever move.
  return { maxSurge: surge, maxUnavailable: surge === 0 && unavailable === 0 ? 1 : unavailable }
}

const sum = (sets: readonly SetSize[], of: (set: SetSize) => number): number =>
  sets.reduce((total, set) => total + of(set), 0)

function recreate(goal: RolloutGoal, fresh: SetSize, old: readonly SetSize[]) {
  const targets = new Map(old.map((set) => [set.id, 0]))
  targets.set(fresh.id, sum(old, (set) => set.current) > 0 ? fresh.replicas : goal.replicas)
  return targets
}

/** The next size of each set; old sets in order of age, oldest first. */
export function nextSizes(
  goal: RolloutGoal,
  fresh: SetSize,
  old: readonly SetSize[],
): ReadonlyMap<string, number> {
  if (goal.isRecreate) return recreate(goal, fresh, old)
  const all = [fresh, ...old]
  const total = sum(all, (set) => set.replicas)
  const room = goal.replicas + goal.maxSurge - total
  const freshTarget =
    fresh.replicas > goal.replicas
      ? goal.replicas
      : Math.min(goal.replicas, fresh.replicas + Math.max(0, room))
  const targets = new Map([[fresh.id, freshTarget]])

  const minAvailable = goal.replicas - goal.maxUnavailable
  const freshUnavailable = Math.max(0, fresh.replicas - fresh.available)
  let removable = Math.max(0, total - minAvailable - freshUnavailable)
  const sizes = new Map(old.map((set) => [set.id, set.replicas]))
  const take = (set: SetSize, atMost: number): number => {
    const size = sizes.get(set.id) ?? 0
    const taken = Math.max(0, Math.min(size, atMost))
    sizes.set(set.id, size - taken)
    return taken
  }
  // Replicas that do not serve anyway go first.
  for (const set of old)
    removable -= take(set, Math.min(removable, Math.max(0, set.replicas - set.available)))
  let spare = Math.min(removable, Math.max(0, sum(all, (set) => set.available) - minAvailable))
  for (const set of old) spare -= take(set, spare)
  for (const [id, size] of sizes) targets.set(id, size)
  return targets
}
