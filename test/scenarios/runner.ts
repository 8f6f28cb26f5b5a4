/**
 * Carries a scenario out, line by line. The first thing that is not as the scenario says, or a broken invariant,
 * ends it with a `ScenarioError` that names the line and shows every server.
 */
import type { Input, NodeId } from '../../consensus/types.ts'
import { compareFact, describeNode } from './facts.ts'
import type { Expectation, Scenario, Selector, Settings, Statement } from './statements.ts'
import { ScenarioError } from './tokens.ts'
import { ScenarioWorld, select } from './world.ts'

const mostTicksToElect = 20

/** Runs a scenario to its end, or throws `ScenarioError`. */
export function runScenario(scenario: Scenario): void {
  const runner = new Runner()
  for (const { place, text, statement } of scenario.lines) {
    try {
      runner.run(statement)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      throw new ScenarioError(`${place}: ${text}\n  ${reason}\n${runner.describe()}`, { cause: error })
    }
  }
}

class Runner {
  readonly #world = new ScenarioWorld()
  #initial: { voters: readonly NodeId[]; learners: readonly NodeId[]; settings: Settings } = {
    voters: [],
    learners: [],
    settings: {},
  }
  readonly #reads = new Map<string, number>()
  #answer: ReturnType<ScenarioWorld['ask']>

  describe(): string {
    const onTheWay = this.#world.network.map(({ from, to, message: { type, term } }) => {
      return `${from} -> ${to} ${type} term=${term}`
    })
    const servers = [...this.#world.nodes.values()].map(describeNode)
    return [...servers, `on the way: ${onTheWay.join(', ') || 'nothing'}`]
      .map(line => `    ${line}`)
      .join('\n')
  }

  run(statement: Statement): void {
    const world = this.#world
    switch (statement.verb) {
      case 'cluster':
        this.#initial = statement
        for (const id of [...statement.voters, ...statement.learners]) world.addNode(id, this.#initial)
        return
      case 'spare':
        for (const id of statement.nodes) world.addNode(id, this.#initial)
        return
      case 'disk': {
        const { node, terms, term = terms.at(-1) ?? 0, votedFor } = statement
        world.preset(node, terms, { currentTerm: term, votedFor })
        return
      }
      case 'settle':
        world.settle()
        return
      case 'deliver':
      case 'drop':
      case 'duplicate':
      case 'delay':
      case 'resume':
        this.#messages(statement.verb, statement.selector)
        return
      case 'withhold': {
        const meant = world.take(statement.selector)
        ensure(meant.length > 0, 'expected such a message, got none')
        for (const envelope of meant) world.deliver(envelope, statement.count)
        return
      }
      case 'partition':
        this.#partition(statement.groups)
        return
      case 'cut':
        world.cut(statement.from, statement.to)
        return
      case 'heal':
        world.heal()
        return
      case 'tick':
        for (let tick = 0; tick < statement.count; tick += 1) {
          for (const id of statement.nodes) world.step(world.node(id), { type: 'tick' })
        }
        return
      case 'violates':
        this.#violates(statement.property, statement.statement)
        return
      case 'expect':
        this.#expect(statement.expectation)
        return
      default:
        this.#onNode(statement)
    }
  }

  #onNode(statement: Extract<Statement, { readonly node: NodeId }>): void {
    const world = this.#world
    const node = world.node(statement.node)
    const isRunning = node.raft !== undefined
    const isForStopped = statement.verb === 'restart' || statement.verb === 'wipe'
    ensure(isRunning !== isForStopped, `${node.id} is ${isRunning ? 'running' : 'stopped'}`)
    switch (statement.verb) {
      case 'elect':
        this.#elect(node.id)
        return
      case 'propose': {
        const data = statement.commands.map(text => new TextEncoder().encode(text))
        this.#ask(node.id, context => ({ type: 'propose', data, context }))
        return
      }
      case 'change': {
        const { voters, learners } = statement
        this.#ask(node.id, context => ({ type: 'change-membership', voters, learners, context }))
        return
      }
      case 'leave-joint':
        this.#ask(node.id, context => ({ type: 'leave-joint', context }))
        return
      case 'abandon-joint':
        this.#ask(node.id, context => ({ type: 'leave-joint', abandon: true, context }))
        return
      case 'read':
        this.#reads.set(statement.name, world.read(node))
        return
      case 'transfer':
        world.step(node, { type: 'transfer', to: statement.peer })
        return
      case 'know':
        world.step(node, { type: 'known-voters', ids: statement.voters })
        return
      case 'disconnect':
        world.step(node, { type: 'unreachable', peer: statement.peer })
        return
      case 'crash':
        ensure(
          node.writes.length >= statement.keeping,
          `expected ${statement.keeping} writes under way, got ${node.writes.length}`,
        )
        world.crash(node, statement.keeping)
        return
      case 'restart':
        node.start()
        return
      case 'wipe': {
        const configuration = { ...this.#initial, votersOutgoing: [] }
        world.wipe(node, { lastIncludedIndex: 0, lastIncludedTerm: 0, configuration })
        return
      }
      case 'hold':
        world.hold(node, statement.what)
        return
      case 'release':
        world.release(node, statement.what)
        return
      case 'persist':
        ensure(node.writes.length > 0, 'expected writes under way, got none')
        world.persist(node, statement.count)
        return
      case 'fail-disk':
        world.failDisk(node)
        return
      case 'compact': {
        node.compact()
        const { snapshot } = node.disk
        ensure(
          snapshot.lastIncludedIndex === node.lastApplied,
          `expected a snapshot at ${node.lastApplied}, got none`,
        )
        return
      }
      case 'fetch':
        ensure(world.fetch(node, statement.fails), 'expected a snapshot to fetch, got none')
        return
      default:
        return
    }
  }

  #ask(id: NodeId, input: (context: number) => Input): void {
    this.#answer = this.#world.ask(this.#world.node(id), input)
  }

  #elect(id: NodeId): void {
    const world = this.#world
    const node = world.node(id)
    for (let tick = 0; tick < mostTicksToElect && node.raft?.status.role === 'follower'; tick += 1) {
      world.step(node, { type: 'tick' })
    }
    world.settle()
    this.#expect({ about: 'nodes', nodes: [id], facts: [{ fact: 'role', role: 'leader' }] })
  }

  #messages(verb: 'deliver' | 'drop' | 'duplicate' | 'delay' | 'resume', selector: Selector): void {
    const world = this.#world
    const moves = {
      deliver: () => world.take(selector),
      drop: () => world.take(selector),
      delay: () => world.delay(selector),
      resume: () => world.resume(selector),
      duplicate: () => select(world.network, selector),
    }
    const meant = moves[verb]()
    ensure(meant.length > 0, 'expected such a message, got none')
    if (verb === 'duplicate') world.network.push(...meant.map(envelope => ({ ...envelope })))
    if (verb === 'deliver') for (const envelope of meant) world.deliver(envelope)
  }

  #partition(groups: readonly (readonly NodeId[])[]): void {
    for (const group of groups) {
      for (const from of group) {
        for (const to of groups.flat()) if (!group.includes(to)) this.#world.cut(from, to)
      }
    }
  }

  #violates(property: string, statement: Statement): void {
    let message = 'nothing'
    try {
      this.run(statement)
    } catch (error) {
      message = error instanceof Error ? error.message : String(error)
    }
    ensure(
      message.startsWith(`violated: ${property}`),
      `expected a violation of "${property}", got ${message}`,
    )
  }

  #expect(expectation: Expectation): void {
    const world = this.#world
    switch (expectation.about) {
      case 'nodes':
        for (const id of expectation.nodes) {
          for (const fact of expectation.facts) {
            const { expected, got } = compareFact(world.node(id), fact, world.nodes)
            ensure(expected === got, `${id} ${fact.fact}: expected ${expected}, got ${got}`)
          }
        }
        return
      case 'no-leader': {
        const leaders = [...world.nodes.values()].filter(({ raft }) => raft?.status.role === 'leader')
        ensure(leaders.length === 0, `expected no leader, got ${leaders.map(({ id }) => id).join(', ')}`)
        return
      }
      case 'agreement':
        this.#expectAgreement()
        return
      case 'message': {
        const count = select(world.network, expectation.selector).length
        const expected = expectation.present ? 'such a message' : 'none'
        ensure(count > 0 === expectation.present, `expected ${expected}, got ${count}`)
        return
      }
      case 'accepted':
        ensure(this.#answer?.type === 'proposed', `expected accepted, got ${this.#answerText()}`)
        return
      case 'refused': {
        const { reason, detail = '' } = expectation
        const isIt =
          this.#answer?.type === 'refused' &&
          this.#answer.reason === reason &&
          this.#answer.detail.includes(detail)
        ensure(isIt, `expected refused ${reason} ${detail}, got ${this.#answerText()}`)
        return
      }
      case 'read': {
        const got = world.readAnswer(this.#reads.get(expectation.name) ?? 0)
        ensure(got === expectation.answer, `expected ${expectation.answer}, got ${got}`)
      }
    }
  }

  #answerText(): string {
    const answer = this.#answer
    if (answer === undefined) return 'no answer'
    return answer.type === 'proposed' ? 'accepted' : `refused ${answer.reason} (${answer.detail})`
  }

  /** All that run have applied the same commands and hold the same log up to there. */
  #expectAgreement(): void {
    const running = [...this.#world.nodes.values()].filter(({ raft }) => raft !== undefined)
    const texts = running.map(({ id, applied }) => {
      const commands = applied.map(entry =>
        entry === undefined ? '-' : new TextDecoder().decode(entry.data),
      )
      return { id, text: commands.join(' ') }
    })
    const [first] = texts
    const other = texts.find(({ text }) => text !== first?.text)
    ensure(
      other === undefined,
      `expected agreement, got ${first?.id}: ${first?.text}, ${other?.id}: ${other?.text}`,
    )
  }
}

function ensure(condition: boolean, reason: string): asserts condition {
  if (!condition) throw new Error(reason)
}
