/**
 * Putting a known bug into this process: the source of one module is changed while it is loaded. Production code has no hooks
 * for it, and a mutant whose text is not found exactly once is an error, so that none silently tests nothing.
 */
import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { fileURLToPath } from 'node:url'

export interface Mutant {
  readonly name: string
  /** Paper section or bug class. */
  readonly source: string
  /** From the root of the repository. */
  readonly file: string
  readonly find: string
  readonly replace: string
  /** A bug of several places. */
  readonly also?: readonly { readonly file: string; readonly find: string; readonly replace: string }[]
}

const root = new URL('../../', import.meta.url)

/** The changed source. Throws unless `find` occurs exactly once. */
export function mutated(source: string, { find, replace }: Pick<Mutant, 'find' | 'replace'>): string {
  const occurrences = source.split(find).length - 1
  if (occurrences !== 1) throw new Error(`expected once, found ${occurrences} times: ${find.trim()}`)
  if (find === replace) throw new Error(`changes nothing: ${find.trim()}`)
  return source.replace(find, () => replace)
}

/** All changes of a mutant, by the address of the module; checked against the sources as they are now. */
export function changesOf(mutant: Mutant): ReadonlyMap<string, (source: string) => string> {
  const changes = new Map<string, (source: string) => string>()
  for (const { file, ...change } of [mutant, ...(mutant.also ?? [])]) {
    const url = new URL(file, root).href
    const earlier = changes.get(url) ?? (source => source)
    const both = (source: string) => {
      try {
        return mutated(earlier(source), change)
      } catch (error) {
        throw new Error(`mutant ${mutant.name}, ${file}: ${(error as Error).message}`)
      }
    }
    both(readFileSync(fileURLToPath(url), 'utf8'))
    changes.set(url, both)
  }
  return changes
}

/** From now on, modules load with the bug in them. */
export function installMutant(mutant: Mutant): void {
  const changes = changesOf(mutant)
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context)
      const change = changes.get(url)
      if (!change) return loaded
      return { ...loaded, source: change(String(loaded.source ?? readFileSync(fileURLToPath(url), 'utf8'))) }
    },
  })
}
