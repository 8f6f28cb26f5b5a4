/** Which checkout is measured: key files, genesis and transactions of an older commit are read by its own code only. */
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** The root of this one. */
export const checkoutHere: string = dirname(dirname(fileURLToPath(import.meta.url)))

/** A module of the checkout at `root`, taken to have the shape of the one here. */
export async function importOf<Module>(root: string, path: string): Promise<Module> {
  return (await import(pathToFileURL(join(root, path)).href)) as Module
}
