/**
 * What a scenario can say of one server: reading a fact from a line, and comparing it with the server.
 */
import type { NodeId } from '../../consensus/types.ts'
import type { Node, StoredLog } from '../unit/consensus/node.ts'
import type { Fact, LogShape, MemberLists } from './statements.ts'
import type { Words } from './tokens.ts'

const roles = ['leader', 'follower', 'candidate', 'precandidate', 'stopped', 'failed'] as const

const factNames = [
  ...roles,
  'follows',
  'term',
  'vote',
  'commit',
  'applied',
  'persisted',
  'log',
  'disk',
  'commands',
  'match',
  'next',
  'in-flight',
  'progress',
  'configuration',
  'transfer',
  'ahead-of',
] as const

/** Reads one fact. `nodes` are the names that the scenario knows. */
export function parseFact(words: Words, nodes: readonly NodeId[]): Fact {
  const fact = words.oneOf(factNames)
  const node = (other?: string): NodeId | null =>
    other !== undefined && words.accept(other) ? null : words.oneOf(nodes)
  switch (fact) {
    case 'follows':
      return { fact, leader: node('nobody') }
    case 'vote':
      return { fact, votedFor: node('none') }
    case 'transfer':
      return { fact, to: node('none') }
    case 'term':
    case 'commit':
    case 'applied':
    case 'persisted':
      return { fact, value: words.number('a number') }
    case 'log':
    case 'disk': {
      const covered = words.accept('snapshot') ? words.number('an index') : 0
      return { fact, shape: { covered, terms: words.numbers() } }
    }
    case 'commands': {
      const commands: string[] = []
      while (!words.isEmpty) commands.push(words.take('a command'))
      return { fact, commands }
    }
    case 'match':
    case 'next':
    case 'in-flight':
      return { fact, peer: words.oneOf(nodes), value: words.number('a number') }
    case 'progress':
      return {
        fact,
        peer: words.oneOf(nodes),
        state: words.oneOf(['probe', 'replicate', 'snapshot', 'full']),
      }
    case 'configuration':
      return { fact, members: members(words, nodes) }
    case 'ahead-of':
      return { fact, peer: words.oneOf(nodes) }
    default:
      return { fact: 'role', role: fact }
  }
}

function members(words: Words, nodes: readonly NodeId[]): MemberLists {
  const list = (): NodeId[] => {
    const found = [words.oneOf(nodes)]
    while (nodes.includes(words.peek)) found.push(words.oneOf(nodes))
    return found
  }
  const voters = list()
  const outgoing = words.accept('outgoing') ? list() : []
  return { voters, outgoing, learners: words.accept('learners') ? list() : [] }
}

/** What the fact says and what the server is, as texts that are equal exactly if the fact holds. */
export function compareFact(
  node: Node,
  fact: Fact,
  nodes: ReadonlyMap<NodeId, Node>,
): { readonly expected: string; readonly got: string } {
  const status = node.raft?.status
  if (fact.fact === 'role') return { expected: fact.role, got: roleOf(node) }
  if (fact.fact === 'disk') return { expected: shapeText(fact.shape), got: shapeText(shapeOf(node.disk)) }
  if (fact.fact === 'applied') return compare(fact.value, node.lastApplied)
  if (fact.fact === 'commands') return { expected: fact.commands.join(' '), got: commandsOf(node).join(' ') }
  if (status === undefined) return { expected: 'a running server', got: 'stopped' }
  switch (fact.fact) {
    case 'follows':
      return compare(fact.leader ?? 'nobody', status.leader ?? 'nobody')
    case 'vote':
      return compare(fact.votedFor ?? 'none', status.votedFor ?? 'none')
    case 'transfer':
      return compare(fact.to ?? 'none', status.transferTo ?? 'none')
    case 'term':
      return compare(fact.value, status.currentTerm)
    case 'commit':
      return compare(fact.value, status.commitIndex)
    case 'persisted':
      return compare(fact.value, status.persistedIndex)
    case 'log':
      return { expected: shapeText(fact.shape), got: shapeText(shapeOf(node.intended)) }
    case 'match':
      return compare(fact.value, status.followers.get(fact.peer)?.matchIndex ?? 'no progress')
    case 'next':
      return compare(fact.value, status.followers.get(fact.peer)?.nextIndex ?? 'no progress')
    case 'in-flight':
      return compare(fact.value, status.followers.get(fact.peer)?.appendsInFlight ?? 'no progress')
    case 'progress':
      return compare(fact.state, status.followers.get(fact.peer)?.state ?? 'no progress')
    case 'configuration': {
      const { voters, votersOutgoing: outgoing, learners } = status.configuration
      return compare(membersText(fact.members), membersText({ voters, outgoing, learners }))
    }
    case 'ahead-of': {
      const other = nodes.get(fact.peer)?.raft?.status
      const isAhead =
        other !== undefined &&
        (status.lastLogTerm > other.lastLogTerm ||
          (status.lastLogTerm === other.lastLogTerm && status.lastLogIndex > other.lastLogIndex))
      return compare(`ahead of ${fact.peer}`, isAhead ? `ahead of ${fact.peer}` : 'not ahead')
    }
  }
}

/** One line about a server, for the report of a failure. */
export function describeNode(node: Node): string {
  const status = node.raft?.status
  if (status === undefined) return `${node.id} stopped, disk ${shapeText(shapeOf(node.disk))}`
  const { currentTerm, votedFor, leader, commitIndex } = status
  const followers = [...status.followers].map(
    ([id, { state, matchIndex, nextIndex }]) => `${id} ${state} match ${matchIndex} next ${nextIndex}`,
  )
  return [
    `${node.id} ${roleOf(node)} term ${currentTerm} vote ${votedFor ?? 'none'} follows ${leader ?? 'nobody'}`,
    `commit ${commitIndex} applied ${node.lastApplied} log ${shapeText(shapeOf(node.intended))}`,
    `disk ${shapeText(shapeOf(node.disk))}`,
    ...followers,
  ].join('; ')
}

function roleOf({ raft }: Node): string {
  if (raft === undefined) return 'stopped'
  return raft.status.failed ? 'failed' : raft.status.role
}

function commandsOf({ applied }: Node): string[] {
  return applied.filter(entry => entry !== undefined).map(entry => new TextDecoder().decode(entry.data))
}

function shapeOf(log: StoredLog): LogShape {
  return { covered: log.before.index, terms: log.entries.map(entry => entry.term) }
}

function shapeText({ covered, terms }: LogShape): string {
  return [...(covered > 0 ? [`snapshot ${covered}`] : []), ...(terms.length > 0 ? terms : ['(empty)'])].join(
    ' ',
  )
}

function membersText({ voters, outgoing, learners }: MemberLists): string {
  const text = (name: string, ids: readonly NodeId[]): string =>
    ids.length === 0 ? '' : `${name} ${[...ids].sort().join(' ')}`
  return [text('voters', voters), text('outgoing', outgoing), text('learners', learners)]
    .filter(Boolean)
    .join(', ')
}

function compare(expected: string | number, got: string | number): { expected: string; got: string } {
  return { expected: `${expected}`, got: `${got}` }
}
