/**
 * Storage that tells when a record turns out to be damaged, whoever asked for it: a node whose committed range does not
 * check must stop, and not merely fail one request.
 */
import { MoteError } from '../../chain/result.ts'
import type { Storage } from '../ports.ts'

export function watchCorruption(storage: Storage, onCorrupt: (error: MoteError) => void): Storage {
  const report = (error: unknown) => {
    if (error instanceof MoteError && error.code === 'storage-corrupt') onCorrupt(error)
  }
  return new Proxy(storage, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      return (...args: unknown[]) => {
        const result: unknown = member.apply(target, args)
        if (result instanceof Promise) result.catch(report)
        return isIterable(result) ? watched(result, report) : result
      }
    },
  })
}

function isIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}

/** The same items. A read that fails half-way is reported as any other. */
async function* watched<T>(items: AsyncIterable<T>, report: (error: unknown) => void): AsyncGenerator<T> {
  try {
    yield* items
  } catch (error) {
    report(error)
    throw error
  }
}
