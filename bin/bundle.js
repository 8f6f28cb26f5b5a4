/**
 * The program in a few large files instead of some 1,500 small ones, because a start is mostly the loading of modules
 * and a devnet starts eight programs. Plain JavaScript, like the launcher that uses it.
 *
 * - Never stale: a bundle lists the source files it was made of, this file and the lockfile of what is installed, with size
 *   and time of change. When any of them differs the launcher makes a new bundle; so an edited file is what runs next.
 * - Never half made: it is written aside and renamed.
 * - Never needed: where none can be made (a read-only checkout, a platform without the bundler) the sources run as they
 *   are, only slower. `MOTE_BUNDLE=off` asks for that.
 *
 * `npm install` makes the first one; `node bin/bundle.js` does it by hand.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, isAbsolute, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

const self = fileURLToPath(import.meta.url)
const root = dirname(dirname(self))
const entry = join(root, 'cli', 'main.ts')
const installed = join(root, 'node_modules', '.package-lock.json')
const bundles = join(root, 'node_modules', '.cache', 'mote')
const current = join(bundles, 'current.json')

/**
 * A running program loads some of its files late, so a bundle outlives the next one; it goes when as many newer ones
 * have come, or after this time.
 */
const keptBundles = 20
const keptMs = 24 * 60 * 60 * 1000

/** Packages whose native code stays where it is installed, and with it the file of each that loads it. */
const native = /[/\\]node_modules[/\\](classic-level|sodium-native)[/\\][^/\\]*$/
const nativeBindings = {
  name: 'native-bindings',
  resolveId(specifier, importer = '') {
    const [, name] = native.exec(importer) ?? []
    return name && specifier === './binding' ? { id: `${name}/binding.js`, external: true } : null
  },
}

/**
 * @typedef {{ readonly path: string, readonly size: number, readonly mtimeMs: number }} Source relative to the root
 * @typedef {{ readonly id: string, readonly sources: readonly Source[] }} Bundle
 */

/** The directory of the newest bundle if it is made of the sources as they are now; undefined otherwise. */
export function freshBundle() {
  try {
    /** @type {Bundle} */
    const { id, sources } = JSON.parse(readFileSync(current, 'utf8'))
    for (const { path, size, mtimeMs } of sources) {
      const now = statSync(join(root, path))
      if (now.size !== size || now.mtimeMs !== mtimeMs) return undefined
    }
    return existsSync(join(bundles, id, 'main.js')) ? join(bundles, id) : undefined
  } catch {
    return undefined
  }
}

/** Makes a bundle and returns its directory. Throws what the bundler or the disk has to say. */
export async function makeBundle() {
  const { rolldown } = await import('rolldown')
  const startedAt = Date.now()
  const aside = join(bundles, `unfinished-${process.pid}`)
  const bundler = await rolldown({
    input: { main: entry },
    platform: 'node',
    plugins: [nativeBindings],
    logLevel: 'silent',
  })
  try {
    const { output } = await bundler.write({ dir: aside, format: 'esm', entryFileNames: '[name].js' })
    // Else Node compiles each file once more to find out.
    writeFileSync(join(aside, 'package.json'), JSON.stringify({ type: 'module' }))
    const modules = output.flatMap(chunk => chunk.moduleIds ?? [])
    const ours = modules.filter(path => isAbsolute(path) && !path.includes(`${sep}node_modules${sep}`))
    return publish(
      aside,
      [...ours, installed, self].map(path => sourceAt(path, startedAt)),
    )
  } finally {
    await bundler.close()
    rmSync(aside, { recursive: true, force: true })
  }
}

/**
 * A file that was written after the bundler began may have been read before or after that: it never counts as unchanged.
 * @returns {Source}
 */
function sourceAt(path, startedAt) {
  const { size, mtimeMs } = statSync(path)
  return { path: relative(root, path), size, mtimeMs: mtimeMs < startedAt ? mtimeMs : 0 }
}

/** Puts a finished bundle in its place and makes it the current one. */
function publish(aside, sources) {
  const id = `bundle-${createHash('sha256').update(JSON.stringify(sources)).digest('hex').slice(0, 16)}`
  const directory = join(bundles, id)
  // The same sources may have been bundled by somebody else meanwhile; then theirs is as good.
  if (!existsSync(join(directory, 'main.js'))) renameSync(aside, directory)
  const pointer = `${current}.${process.pid}`
  writeFileSync(pointer, JSON.stringify({ id, sources }))
  renameSync(pointer, current)
  prune(id)
  return directory
}

function prune(kept) {
  const others = readdirSync(bundles)
    .filter(name => name.startsWith('bundle-') && name !== kept)
    .map(name => ({ path: join(bundles, name), madeAt: statSync(join(bundles, name)).mtimeMs }))
    .sort((a, b) => b.madeAt - a.madeAt)
  for (const [index, { path, madeAt }] of others.entries())
    if (index >= keptBundles || Date.now() - madeAt > keptMs) rmSync(path, { recursive: true, force: true })
}

if (process.argv[1] === self) {
  try {
    if (!freshBundle()) await makeBundle()
  } catch (error) {
    // An installation is not to fail for this: the sources run as they are.
    console.error(`mote: no bundle was made, starts will be slower: ${error.message}`)
  }
}
