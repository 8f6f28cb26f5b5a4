/**
 * The language of the scenarios: one statement per line over the pure Raft core, after etcd's data-driven tests and
 * CCF's `raft_scenarios`. A file opens with a comment: its first line is the title, and one line says `Source: …`,
 * the section of the paper or the class of bug.
 *
 *   cluster NODE… [learners NODE…] [with SETTING VALUE…]   servers with empty disks that run; comes first
 *   spare NODE…                      servers outside of the configuration, with empty disks
 *   disk NODE [log TERM…] [term N] [vote NODE]   starts with this on disk; index 1 has the first TERM
 *
 *   tick NODE…|all [N]               time passes. The nth server in the file stands for election after 10 + 2(n-1) ticks
 *   elect NODE                       ticks it until it stands for election, then `deliver`; it has to win
 *   propose NODE COMMAND…            commands, all or none
 *   read NODE NAME                   a linearizable read; NAME is for `expect read`
 *   transfer NODE to NODE            change NODE voters NODE… [learners NODE…]      leave-joint NODE      abandon-joint NODE
 *
 *   deliver                          everything on its way arrives, and what it causes, until all is quiet
 *   deliver|drop|duplicate|delay|resume MESSAGES   of what is on its way now; delayed ones are out of reach until resumed
 *   withhold N MESSAGES              appends arrive without their last N entries: the driver holds those back for now
 *   MESSAGES = [FROM -> TO] [TYPE] [FIELD=VALUE…] [first|last], at least one part; `*` is any server; entries=N counts
 *   partition NODE… | NODE… [| …]    cut FROM -> TO     heal     a message that would cross a cut is lost on arrival
 *   disconnect NODE PEER             NODE's transport says that its stream to PEER broke
 *   know NODE NODE…                  the first one's driver knows that the others are voters, whatever its log says
 *
 *   crash NODE [keeping N]           loses writes that are not done, but for the first N     restart NODE
 *   wipe NODE                        a stopped server's disk is empty, as if it were new
 *   hold|release NODE disk|applying  writes wait, or the core is not told what is applied; `release` catches up
 *   persist NODE [N]                 the first N (all) held writes are done                  fail-disk NODE
 *   compact NODE                     a snapshot of what is applied takes the place of the log up to there
 *   fetch NODE [fails]               the snapshot that NODE was told to fetch arrives, or cannot be had
 *
 *   expect NODE…|all FACT…           leader follower candidate precandidate stopped failed · follows NODE|nobody ·
 *     term N · vote NODE|none · commit N · applied N · persisted N · log [snapshot N] TERM… · disk [snapshot N] TERM… ·
 *     commands COMMAND… (last) · match PEER N · next PEER N · in-flight PEER N · progress PEER probe|replicate|snapshot|full ·
 *     configuration NODE… [outgoing NODE…] [learners NODE…] · transfer NODE|none · ahead-of NODE
 *   expect no leader | agreement | message MESSAGES | no message MESSAGES
 *   expect accepted | refused REASON ["PART OF THE DETAIL"]     the last propose, change, leave-joint or abandon-joint
 *   expect read NAME at N|waiting|refused
 *   violates "PROPERTY" STATEMENT    STATEMENT breaks this invariant: why a rule outside of the core is there. Last line
 *
 * Every error is a `ScenarioError`: `file:line: expected X, got Y`.
 */
import type { NodeId, RefusalReason } from '../../consensus/types.ts'
import { parseFact } from './facts.ts'
import type { MessageType, Scenario, ScenarioLine, Selector, Settings, Statement } from './statements.ts'
import { ScenarioError, Words } from './tokens.ts'

const messageTypes: readonly MessageType[] = [
  'request-vote',
  'vote',
  'append-entries',
  'append-response',
  'heard',
  'install-snapshot',
  'snapshot-response',
  'timeout-now',
]

const messageFields = [
  'term',
  'lastLogIndex',
  'lastLogTerm',
  'preVote',
  'leadershipTransfer',
  'voteGranted',
  'prevLogIndex',
  'prevLogTerm',
  'entries',
  'leaderCommit',
  'readContext',
  'success',
  'matchIndex',
  'conflictIndex',
  'conflictTerm',
  'full',
  'lastIncludedIndex',
]

const refusalReasons: readonly RefusalReason[] = [
  'not-leader',
  'overloaded',
  'transferring',
  'change-in-progress',
  'would-lose-quorum',
  'unknown-member',
  'not-joint',
  'invalid-members',
  'too-large',
]

const switches = {
  'pre-vote': 'preVote',
  'check-quorum': 'checkQuorum',
  'auto-leave': 'autoLeaveJoint',
} as const

const limits = {
  'max-entries': 'maxEntriesPerAppend',
  'max-in-flight': 'maxAppendsInFlight',
  'max-uncommitted': 'maxUncommittedBytes',
  'max-memory': 'maxLogBytesInMemory',
} as const

const keysOf = <T extends object>(table: T): (keyof T & string)[] =>
  Object.keys(table) as (keyof T & string)[]

/** Reads a scenario. Throws `ScenarioError` at the first line that is not in the language. */
export function parseScenario(file: string, text: string): Scenario {
  const lines = text.split('\n')
  const opening = lines.slice(
    0,
    lines.findIndex(line => !line.startsWith('#')),
  )
  const title = opening[0]?.replace(/^#\s*/, '').trim() ?? ''
  if (title === '') throw new ScenarioError(`${file}:1: expected a comment with the title, got none`)
  const source = opening.find(line => /^# Source: \S/.test(line))?.slice('# Source: '.length)
  if (source === undefined)
    throw new ScenarioError(`${file}:1: expected a comment line "Source: …", got none`)
  const parser = new Parser()
  const statements: ScenarioLine[] = []
  for (const [offset, line] of lines.entries()) {
    const words = new Words(`${file}:${offset + 1}`, line)
    if (words.isEmpty) continue
    const statement = parser.statement(words)
    words.end()
    statements.push({ place: words.place, text: line.trim(), statement })
  }
  if (!parser.hasExpectation)
    throw new ScenarioError(`${file}:${lines.length}: expected an expectation, got none`)
  return { file, title, source, lines: statements }
}

type Reader = (words: Words) => Statement

class Parser {
  readonly #nodes: NodeId[] = []
  readonly #reads = new Set<string>()
  #hasBegun = false
  #hasEnded = false
  hasExpectation = false

  readonly #readers: Readonly<Record<string, Reader>> = {
    cluster: words => this.#cluster(words),
    spare: words => ({ verb: 'spare', nodes: this.#newNodes(words) }),
    disk: words => this.#disk(words),
    tick: words => ({
      verb: 'tick',
      nodes: this.#someOrAll(words),
      count: words.isNumber() ? words.number('ticks') : 1,
    }),
    propose: words => ({ verb: 'propose', node: this.#node(words), commands: this.#commands(words) }),
    read: words => this.#read(words),
    transfer: words => {
      const node = this.#node(words)
      words.expect('to')
      return { verb: 'transfer', node, peer: this.#node(words) }
    },
    disconnect: words => ({ verb: 'disconnect', node: this.#node(words), peer: this.#node(words) }),
    know: words => ({ verb: 'know', node: this.#node(words), voters: this.#nodeList(words) }),
    change: words => this.#change(words),
    deliver: words =>
      words.isEmpty ? { verb: 'settle' } : { verb: 'deliver', selector: this.#selector(words) },
    withhold: words => {
      const count = words.number('a number of entries')
      return { verb: 'withhold', count, selector: this.#selector(words) }
    },
    drop: words => ({ verb: 'drop', selector: this.#selector(words) }),
    duplicate: words => ({ verb: 'duplicate', selector: this.#selector(words) }),
    delay: words => ({ verb: 'delay', selector: this.#selector(words) }),
    resume: words => ({ verb: 'resume', selector: this.#selector(words) }),
    partition: words => this.#partition(words),
    cut: words => {
      const from = this.#node(words)
      words.expect('->')
      return { verb: 'cut', from, to: this.#node(words) }
    },
    heal: () => ({ verb: 'heal' }),
    crash: words => ({
      verb: 'crash',
      node: this.#node(words),
      keeping: words.accept('keeping') ? words.number('a number of writes') : 0,
    }),
    hold: words => ({ verb: 'hold', node: this.#node(words), what: words.oneOf(['disk', 'applying']) }),
    release: words => ({ verb: 'release', node: this.#node(words), what: words.oneOf(['disk', 'applying']) }),
    persist: words => ({
      verb: 'persist',
      node: this.#node(words),
      count: words.isNumber() ? words.number('a number of writes') : Infinity,
    }),
    'fail-disk': words => ({ verb: 'fail-disk', node: this.#node(words) }),
    fetch: words => ({ verb: 'fetch', node: this.#node(words), fails: words.accept('fails') }),
    elect: words => ({ verb: 'elect', node: this.#node(words) }),
    restart: words => ({ verb: 'restart', node: this.#node(words) }),
    wipe: words => ({ verb: 'wipe', node: this.#node(words) }),
    compact: words => ({ verb: 'compact', node: this.#node(words) }),
    'leave-joint': words => ({ verb: 'leave-joint', node: this.#node(words) }),
    'abandon-joint': words => ({ verb: 'abandon-joint', node: this.#node(words) }),
    expect: words => this.#expect(words),
    violates: words => this.#violates(words),
  }

  statement(words: Words): Statement {
    if (this.#hasEnded) words.fail('nothing after "violates"')
    if (this.#nodes.length === 0 && words.peek !== 'cluster') words.fail('cluster')
    const verb = words.oneOf(keysOf(this.#readers))
    const isSetup = verb === 'cluster' || verb === 'spare' || verb === 'disk'
    if (isSetup && this.#hasBegun) words.fail(`${verb} before the first step`)
    if (!isSetup) this.#hasBegun = true
    const reader = this.#readers[verb]
    if (reader === undefined) words.fail('a statement')
    return reader(words)
  }

  #cluster(words: Words): Statement {
    if (this.#nodes.length > 0) words.fail('one cluster')
    const voters = this.#newNodes(words)
    const learners = words.accept('learners') ? this.#newNodes(words) : []
    let settings: Settings = {}
    if (words.accept('with')) {
      do settings = { ...settings, ...this.#setting(words) }
      while (!words.isEmpty)
    }
    return { verb: 'cluster', voters, learners, settings }
  }

  #setting(words: Words): Settings {
    const name = words.oneOf([...keysOf(switches), ...keysOf(limits)])
    if (name in switches) {
      return { [switches[name as keyof typeof switches]]: words.oneOf(['on', 'off']) === 'on' }
    }
    return { [limits[name as keyof typeof limits]]: words.number('a number') }
  }

  #disk(words: Words): Statement {
    const node = this.#node(words)
    const terms = words.accept('log') ? words.numbers() : []
    const term = words.accept('term') ? words.number('a term') : undefined
    const votedFor = words.accept('vote') ? this.#node(words) : null
    return { verb: 'disk', node, terms, term, votedFor }
  }

  #change(words: Words): Statement {
    const node = this.#node(words)
    words.expect('voters')
    const voters = this.#nodeList(words)
    return { verb: 'change', node, voters, learners: words.accept('learners') ? this.#nodeList(words) : [] }
  }

  #read(words: Words): Statement {
    const node = this.#node(words)
    if (this.#reads.has(words.peek)) words.fail('a name that no other read has')
    const name = words.take('a name for the read')
    this.#reads.add(name)
    return { verb: 'read', node, name }
  }

  #partition(words: Words): Statement {
    const groups = [this.#nodeList(words)]
    while (words.accept('|')) groups.push(this.#nodeList(words))
    if (groups.length < 2) words.fail('| and the other side')
    return { verb: 'partition', groups }
  }

  #violates(words: Words): Statement {
    const property = words.quoted('the name of a property in quotes')
    const statement = this.statement(words)
    this.#hasEnded = true
    this.hasExpectation = true
    return { verb: 'violates', property, statement }
  }

  #expect(words: Words): Statement {
    this.hasExpectation = true
    const about = this.#nodes.includes(words.peek)
      ? 'nodes'
      : words.oneOf(['all', 'no', 'agreement', 'message', 'accepted', 'refused', 'read'])
    switch (about) {
      case 'nodes':
      case 'all': {
        const nodes = about === 'all' ? [...this.#nodes] : this.#nodeList(words)
        const facts = [parseFact(words, this.#nodes)]
        while (!words.isEmpty) facts.push(parseFact(words, this.#nodes))
        return { verb: 'expect', expectation: { about: 'nodes', nodes, facts } }
      }
      case 'no':
        if (words.accept('leader')) return { verb: 'expect', expectation: { about: 'no-leader' } }
        words.expect('message')
        return {
          verb: 'expect',
          expectation: { about: 'message', selector: this.#selector(words), present: false },
        }
      case 'message':
        return {
          verb: 'expect',
          expectation: { about: 'message', selector: this.#selector(words), present: true },
        }
      case 'refused': {
        const reason = words.oneOf(refusalReasons)
        const detail = words.isEmpty ? undefined : words.quoted('part of the detail in quotes')
        return { verb: 'expect', expectation: { about: 'refused', reason, detail } }
      }
      case 'read': {
        if (!this.#reads.has(words.peek)) words.fail('the name of a read that was begun')
        const name = words.take('a name')
        const answer = words.oneOf(['at', 'waiting', 'refused'])
        const expected = answer === 'at' ? words.number('an index') : answer
        return { verb: 'expect', expectation: { about: 'read', name, answer: expected } }
      }
      default:
        return { verb: 'expect', expectation: { about } }
    }
  }

  #selector(words: Words): Selector {
    if (words.isEmpty) words.fail('messages')
    let from: NodeId | undefined
    let to: NodeId | undefined
    if (words.peek === '*' || this.#nodes.includes(words.peek)) {
      from = this.#nodeOrAny(words)
      words.expect('->')
      to = this.#nodeOrAny(words)
    }
    const type =
      /^[a-z]+(-[a-z]+)?$/.test(words.peek) && !['first', 'last'].includes(words.peek)
        ? words.oneOf(messageTypes)
        : undefined
    const fields: [string, string][] = []
    while (words.peek.includes('=')) fields.push(this.#field(words))
    const position = words.isEmpty ? 'all' : words.oneOf(['first', 'last'])
    return { from, to, type, fields, position }
  }

  #field(words: Words): [string, string] {
    const [name = '', value = ''] = words.peek.split('=')
    if (!messageFields.includes(name)) words.fail(`a field of a message (${messageFields.join(', ')})`)
    if (!/^(\d+|true|false)$/.test(value)) words.fail('a number, true or false after =')
    words.take('a field')
    return [name, value]
  }

  #commands(words: Words): string[] {
    const commands = [words.take('a command')]
    while (!words.isEmpty) commands.push(words.take('a command'))
    return commands
  }

  #newNodes(words: Words): NodeId[] {
    const nodes: NodeId[] = []
    while (!words.isEmpty && !['learners', 'with'].includes(words.peek)) {
      if (!/^[a-z][a-z0-9]?$/.test(words.peek)) words.fail('a name of a letter and perhaps one more sign')
      if (this.#nodes.includes(words.peek)) words.fail('a node once')
      this.#nodes.push(words.peek)
      nodes.push(words.take('a node'))
    }
    if (nodes.length === 0) words.fail('a node')
    return nodes
  }

  #node(words: Words): NodeId {
    if (!this.#nodes.includes(words.peek)) words.fail(`a node (${this.#nodes.join(', ')})`)
    return words.take('a node')
  }

  #nodeOrAny(words: Words): NodeId | undefined {
    return words.accept('*') ? undefined : this.#node(words)
  }

  #nodeList(words: Words): NodeId[] {
    const nodes = [this.#node(words)]
    while (this.#nodes.includes(words.peek)) nodes.push(this.#node(words))
    return nodes
  }

  #someOrAll(words: Words): NodeId[] {
    return words.accept('all') ? [...this.#nodes] : this.#nodeList(words)
  }
}
