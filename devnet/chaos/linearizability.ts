/**
 * Whether a history of concurrent operations on one object is linearizable: is there an order of the operations that
 * respects their real times, in which each gives the answer it gave? (Herlihy & Wing 1990; the search is Wing & Gong's
 * with Lowe's memory of visited configurations.)
 *
 * An operation whose outcome its client never learned may have taken effect at any time after its call, or never.
 * Pure: used on histories of simulated and of real processes.
 */

export interface HistoryOperation<Input, Output> {
  /** For people. */
  readonly client: string
  readonly input: Input
  readonly calledAt: number
  /** Undefined: the outcome is unknown. */
  readonly returned: { readonly at: number; readonly output: Output } | undefined
}

/** The object's sequential behaviour. States are values: `key` tells them apart. */
export interface Model<State, Input, Output> {
  readonly initial: State
  /** The state after `input`; undefined if it cannot give this output here. `output: undefined`: any will do. */
  step(state: State, input: Input, output: Output | undefined): State | undefined
  key(state: State): string
}

export type LinearizabilityResult<Input, Output> =
  | { readonly type: 'linearizable' }
  /** No order exists: after the longest one that was found, each of these is impossible. */
  | { readonly type: 'violation'; readonly stuckAt: readonly HistoryOperation<Input, Output>[] }
  /** The search was cut off. */
  | { readonly type: 'undecided'; readonly steps: number }

export interface SearchOptions {
  /** Configurations looked at before it gives up. Default one million. */
  readonly maxSteps?: number
}

interface Configuration<State> {
  readonly state: State
  /** Every completed operation before this one, in order of calls, is done. */
  readonly prefix: number
  /** Completed operations behind `prefix` that are done. */
  readonly done: readonly number[]
  /** Operations of unknown outcome that took effect. */
  readonly used: readonly number[]
}

/** Searches for a linearization of `history`, whose operations are all on one object. */
export function checkLinearizable<State, Input, Output>(
  history: readonly HistoryOperation<Input, Output>[],
  model: Model<State, Input, Output>,
  { maxSteps = 1_000_000 }: SearchOptions = {},
): LinearizabilityResult<Input, Output> {
  const byCall = [...history].sort((a, b) => a.calledAt - b.calledAt)
  const completed = byCall.filter(operation => operation.returned !== undefined)
  const unknown = byCall.filter(operation => operation.returned === undefined)
  const seen = new Set<string>()
  const open: Configuration<State>[] = [{ state: model.initial, prefix: 0, done: [], used: [] }]
  let furthest: Configuration<State> | undefined
  for (let steps = 0; ; steps++) {
    const here = open.pop()
    if (!here)
      return {
        type: 'violation',
        stuckAt: furthest ? candidates(completed, furthest) : completed.slice(0, 1),
      }
    if (here.prefix === completed.length) return { type: 'linearizable' }
    if (steps >= maxSteps) return { type: 'undecided', steps }
    if (!furthest || progress(here) > progress(furthest)) furthest = here
    for (const next of successors(here, { completed, unknown, model })) {
      const key = `${next.prefix}|${next.done.join()}|${next.used.join()}|${model.key(next.state)}`
      if (seen.has(key)) continue
      seen.add(key)
      open.push(next)
    }
  }
}

function progress({ prefix, done }: Configuration<unknown>): number {
  return prefix + done.length
}

/** The earliest return among what is not done yet: whatever was called after it must come later. */
function earliestReturn<Input, Output>(
  completed: readonly HistoryOperation<Input, Output>[],
  { prefix, done }: Configuration<unknown>,
): number {
  let earliest = Number.POSITIVE_INFINITY
  for (let i = prefix; i < completed.length; i++) {
    const { calledAt, returned } = completed[i] as HistoryOperation<Input, Output>
    if (calledAt > earliest) break
    if (returned && !done.includes(i)) earliest = Math.min(earliest, returned.at)
  }
  return earliest
}

/** What may come next in real time, whether or not its answer fits. */
function candidates<Input, Output>(
  completed: readonly HistoryOperation<Input, Output>[],
  here: Configuration<unknown>,
): readonly HistoryOperation<Input, Output>[] {
  const limit = earliestReturn(completed, here)
  return completed.filter(
    ({ calledAt }, i) => i >= here.prefix && calledAt <= limit && !here.done.includes(i),
  )
}

interface Search<State, Input, Output> {
  readonly completed: readonly HistoryOperation<Input, Output>[]
  readonly unknown: readonly HistoryOperation<Input, Output>[]
  readonly model: Model<State, Input, Output>
}

function successors<State, Input, Output>(
  here: Configuration<State>,
  { completed, unknown, model }: Search<State, Input, Output>,
): readonly Configuration<State>[] {
  const limit = earliestReturn(completed, here)
  const next: Configuration<State>[] = []
  // Pushed first, so looked at last: mostly an operation of unknown outcome is not needed.
  for (const [i, { calledAt, input }] of unknown.entries()) {
    if (calledAt > limit) break
    if (here.used.includes(i)) continue
    const state = model.step(here.state, input, undefined)
    if (state !== undefined && model.key(state) !== model.key(here.state))
      next.push({ ...here, state, used: [...here.used, i].sort((a, b) => a - b) })
  }
  for (let i = here.prefix; i < completed.length; i++) {
    const { calledAt, input, returned } = completed[i] as HistoryOperation<Input, Output>
    if (calledAt > limit) break
    if (here.done.includes(i)) continue
    const state = model.step(here.state, input, returned?.output)
    if (state !== undefined) next.push({ ...here, state, ...afterwards(here, i) })
  }
  return next
}

/** The done set with one more in it, as short as it can be written. */
function afterwards({ prefix, done }: Configuration<unknown>, index: number) {
  const rest = new Set([...done, index])
  let start = prefix
  while (rest.delete(start)) start++
  return { prefix: start, done: [...rest].sort((a, b) => a - b) }
}
