/**
 * A group's epoch as a register with compare-and-set: `group.rekey` names the epoch that it replaces, and of those who
 * name the same one wins. The object of the linearizability checks on real processes.
 */
import type { HistoryOperation, Model } from './linearizability.ts'

export interface EpochState {
  readonly epoch: number
  /** Hash of the epoch key; empty before the first. */
  readonly value: string
}

export type EpochInput =
  | { readonly type: 'read' }
  /** Sets epoch + 1 with this value, if the epoch is still `epoch`. */
  | { readonly type: 'set'; readonly epoch: number; readonly value: string }

export type EpochOutput =
  | { readonly type: 'state'; readonly state: EpochState }
  | { readonly type: 'set' }
  | { readonly type: 'conflict' }

export type EpochOperation = HistoryOperation<EpochInput, EpochOutput>

export function epochModel(initial: EpochState): Model<EpochState, EpochInput, EpochOutput> {
  return {
    initial,
    key: ({ epoch, value }) => `${epoch}:${value}`,
    step: (state, input, output) => {
      if (input.type === 'read') {
        if (output === undefined) return state
        if (output.type !== 'state') return undefined
        const same = output.state.epoch === state.epoch && output.state.value === state.value
        return same ? state : undefined
      }
      const fits = input.epoch === state.epoch
      const after = fits ? { epoch: state.epoch + 1, value: input.value } : state
      if (output === undefined) return after
      return (output.type === 'set') === fits ? after : undefined
    },
  }
}
