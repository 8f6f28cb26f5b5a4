/**
 * What a chaos run reads from outside: who led when, from the nodes' logs; what the gateway decided, from its
 * decision log.
 */
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { layout } from '../layout.ts'

/** A node became leader. */
export interface Election {
  readonly node: string
  readonly term: number
  readonly atMs: number
}

export interface LoggedDecision {
  readonly event: string
  readonly verdict: string
  readonly code: string | null
  readonly ageMs: number
}

/** Objects in a file of JSON lines that were written since; lines that are none are passed over. */
async function* linesSince(
  path: string,
  sinceMs: number,
): AsyncGenerator<Record<string, unknown> & { atMs: number }> {
  for await (const line of createInterface({ input: createReadStream(path) })) {
    if (!line.startsWith('{')) continue
    try {
      const value = JSON.parse(line) as Record<string, unknown>
      const atMs = Date.parse(String(value['time']))
      if (atMs >= sinceMs) yield { ...value, atMs }
    } catch {
      // The program was killed in the middle of it.
    }
  }
}

/** Files of a directory whose name begins so, whatever rotation has added. */
async function filesNamed(directory: string, prefix: string): Promise<readonly string[]> {
  const names = await readdir(directory).catch(() => [])
  return names.filter(name => name.startsWith(prefix)).map(name => join(directory, name))
}

/** Every time a full node became leader since, by time. */
export async function electionsSince(
  directory: string,
  nodes: readonly string[],
  sinceMs: number,
): Promise<readonly Election[]> {
  const elections: Election[] = []
  for (const node of nodes)
    for (const path of await filesNamed(dirname(layout.nodeLog(directory, node)), 'log'))
      for await (const { message, role, term, atMs } of linesSince(path, sinceMs))
        if (message === 'leadership' && role === 'leader') elections.push({ node, term: Number(term), atMs })
  return elections.sort((a, b) => a.atMs - b.atMs)
}

/** Every decision of the gateway since. */
export async function decisionsSince(
  directory: string,
  gateway: string,
  sinceMs: number,
): Promise<readonly LoggedDecision[]> {
  const decisions: LoggedDecision[] = []
  for (const path of await filesNamed(layout.nodeData(directory, gateway), 'decisions'))
    for await (const { event, verdict, code, ageMs } of linesSince(path, sinceMs))
      decisions.push({
        event: String(event),
        verdict: String(verdict),
        code: typeof code === 'string' ? code : null,
        ageMs: Number(ageMs),
      })
  return decisions
}
