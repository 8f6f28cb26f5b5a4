/**
 * `mote chaos partition|delay|loss|heal|wipe|unwipe`: faults of the network between the programs of a devnet, and of
 * a node's disk.
 */
import type { Command } from 'commander'
import { exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import { changeLinks, healProcesses, linkedNames } from '../devnet/chaos/faults.ts'
import { askControl } from '../devnet/control.ts'
import type { DevnetDescription } from '../devnet/layout.ts'
import { type LinkChange, parseDelay, parseLoss, parsePartition } from '../devnet/link-faults.ts'
import type { LinkStatus } from '../devnet/link-network.ts'
import type { WipeAnswer } from '../devnet/supervisor.ts'
import { requireDescription } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'

const reach =
  'Links are those between full and coordination nodes, and from the gateway to the full nodes. They pass through the\n' +
  "supervisor; nobody else's do: the command line, devices and lightweight nodes reach a node in any case."

export function linkCommands(family: Command, add: AddCommand): void {
  add({
    parent: family,
    usage: 'partition <cut...>',
    description:
      'A,B/C: cut every link between the sides; A>B: cut what A sends to B. Replaces an earlier partition',
    notes: `A cut link holds what is sent on it and delivers it after \`heal\`; nothing is reset. Nodes that are not named\nreach everybody. ${reach}`,
    action: partition,
  })
  add({
    parent: family,
    usage: 'delay <node> <milliseconds>',
    description:
      "delay every link of a node, or of 'all', each way by MS, MS±JITTER or MS+-JITTER; 0 ends it",
    notes: `The order of bytes is kept. A link takes the larger delay of its two ends. ${reach}`,
    action: delay,
  })
  add({
    parent: family,
    usage: 'loss <node> <percent>',
    description: "lose a share of what passes every link of a node, or of 'all'; 0 ends it",
    notes: `Programs talk TCP, which sends a lost segment again: what they feel is the wait. So a lost chunk, which is what one\nread of the socket gave, holds up the connection for 200 ms, twice as long each time it is lost again. ${reach}`,
    action: loss,
  })
  add({
    parent: family,
    usage: 'heal',
    description:
      'end every partition, delay and loss, set clocks right, let paused processes go on; what is down stays down',
    action: heal,
  })
  add({
    parent: family,
    usage: 'wipe <node>',
    description:
      'stop a node, move its data away, start it; a consenter must not come back as the member it was',
    exits: { 0: 'the answer says whether it stays up without its data' },
    notes:
      'A full node asks its peers what they remember of it, and ends; that takes seconds, and the command waits for it.\n' +
      'The data is kept beside its place; `mote chaos unwipe NODE` puts it back.',
    action: wipe,
  })
  add({
    parent: family,
    usage: 'unwipe <node>',
    description: 'put back what `wipe` moved away, and start the node',
    action: unwipe,
  })
}

function nodesOf(description: DevnetDescription, text: string): readonly string[] {
  if (text === 'all') return []
  const names = linkedNames(description)
  if (names.includes(text)) return [text]
  throw new MoteError('not-found', `node: expected one of ${names.join(', ')}, or all, got '${text}'`)
}

async function change(
  context: Context,
  make: (description: DevnetDescription) => LinkChange,
): Promise<number> {
  const description = await requireDescription(context)
  const status = await changeLinks(description, make(description), context.signal)
  context.output.data(status, () => linkText(status))
  return exitCodes.ok
}

/** What is wrong with the links, one line for each. */
function linkText({ blocked, qualities }: LinkStatus): string {
  const lines = [
    ...blocked.map(({ from, to }) => `${from} > ${to}  cut`),
    ...Object.entries(qualities).map(([name, { delayMs, jitterMs, loss: share }]) => {
      const parts = [
        ...(delayMs > 0 ? [`delay ${delayMs}${jitterMs > 0 ? `±${jitterMs}` : ''} ms`] : []),
        ...(share > 0 ? [`loss ${+(share * 100).toFixed(2)} %`] : []),
      ]
      return `${name}  ${parts.join(', ')}`
    }),
  ]
  return lines.length === 0 ? 'every link is whole' : lines.join('\n')
}

function partition(context: Context, cuts: readonly string[]): Promise<number> {
  return change(context, description => ({
    type: 'partition',
    blocked: parsePartition(cuts, linkedNames(description)),
  }))
}

function delay(context: Context, [node = '', text = '']: readonly string[]): Promise<number> {
  return change(context, description => ({
    type: 'delay',
    nodes: nodesOf(description, node),
    ...parseDelay(text),
  }))
}

function loss(context: Context, [node = '', text = '']: readonly string[]): Promise<number> {
  return change(context, description => ({
    type: 'loss',
    nodes: nodesOf(description, node),
    loss: parseLoss(text),
  }))
}

async function heal(context: Context): Promise<number> {
  await healProcesses(await requireDescription(context), context.signal)
  return change(context, () => ({ type: 'heal' }))
}

async function wipe(context: Context, [node = '']: readonly string[]): Promise<number> {
  const { controlSocket } = await requireDescription(context)
  const answer = (await askControl(controlSocket, { command: 'wipe', node }, context.signal)) as WipeAnswer
  context.output.data({ node, ...answer }, () =>
    answer.started
      ? `${node} runs without its data; that is kept in ${answer.kept}`
      : `${node} does not run without its data, which is kept in ${answer.kept}:\n${answer.reason}`,
  )
  return exitCodes.ok
}

async function unwipe(context: Context, [node = '']: readonly string[]): Promise<number> {
  const { controlSocket } = await requireDescription(context)
  const request = { command: 'unwipe', node } as const
  const { pid } = (await askControl(controlSocket, request, context.signal)) as { pid: number }
  context.output.data({ node, pid }, () => `${node} answers again with its data, process ${pid}`)
  return exitCodes.ok
}
