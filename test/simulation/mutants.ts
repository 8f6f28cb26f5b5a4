/** Bugs that others have had, to be put back in one at a time: each must be caught by some seed. */
import type { Mutant } from './mutation.ts'

export const mutants: readonly Mutant[] = []
