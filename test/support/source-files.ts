/**
 * The source files of the repository, and what each imports, for the tests that judge the source itself.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

export const repositoryRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/** The folders that hold source, in the order of the house (docs/ARCHITECTURE.md). */
export const sourceFolders = [
  'consensus',
  'chain',
  'client',
  'node',
  'mqtt-gateway',
  'devnet',
  'cli',
  'bin',
  'bench',
  'docs',
  'test',
] as const

export interface SourceFile {
  /** Path from the root of the repository, with forward slashes. */
  readonly path: string
  readonly folder: string
  readonly text: string
}

/** Every `.ts` and `.js` file under the source folders, sorted by path. */
export function readSourceFiles(): SourceFile[] {
  return sourceFolders
    .flatMap(folder =>
      readdirSync(join(repositoryRoot, folder), { recursive: true, withFileTypes: true })
        .filter(entry => entry.isFile() && /\.(ts|js)$/.test(entry.name))
        .map(entry => {
          const absolute = join(entry.parentPath, entry.name)
          const path = relative(repositoryRoot, absolute).split('\\').join('/')
          return { path, folder, text: readFileSync(absolute, 'utf8') }
        }),
    )
    .sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** Every file of the repository, committed or about to be, by its path from the root. */
export function projectFiles(): string[] {
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard']
  const list = execFileSync('git', args, { cwd: repositoryRoot, encoding: 'utf8' })
  return list.split('\0').filter(path => path !== '' && existsSync(join(repositoryRoot, path)))
}

const importPattern =
  /(?:^|[\n;])\s*(?:import|export)\s+(?:type\s+)?(?:[\w*{}\s,$]+?\s+from\s+)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g

/** Every module name that a source text imports or re-exports, static and dynamic, types included. */
export function importsOf(text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '')
  return [...code.matchAll(importPattern)].map(match => match[1] ?? match[2] ?? '')
}

/** The path from the root that a relative import leads to. */
export function resolveImport(from: string, specifier: string): string {
  return join(dirname(from), specifier).split('\\').join('/')
}
