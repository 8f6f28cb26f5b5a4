/**
 * The gateway that is attacked, in a process of its own, and an honest pair of devices on it that exchange a message every few
 * milliseconds. The process that started it asks for figures.
 */
import { GatewayFixture, listen, sentText } from '../support/gateway-fixture.ts'
import { keysOf } from '../support/test-chain.ts'
import { type AttackedGateway, type GatewayFigures, hostileNames } from './attacked-gateway.ts'

const [senderName, recipientName] = ['honest-a', 'honest-b']
const honestPauseMs = 50

async function serve(): Promise<void> {
  const fixture = await GatewayFixture.start(
    { connectionsMax: 64, unproven: { all: 400, perAddress: 100 }, subscriptionsPerClientMax: 8 },
    { refusedSummaryMs: 1_000 },
  )
  const [sender, recipient] = [keysOf(senderName), keysOf(recipientName)]
  for (const name of [senderName, recipientName, ...hostileNames]) fixture.device(name, keysOf(name))
  const hostile = hostileNames.map(name => keysOf(name).id)
  const group = fixture.trust.createGroup(hostile[0]!, 'of-the-hostile')
  fixture.trust.changeMembers(group, { add: hostile })
  const from = await fixture.agent(sender)
  const inbox = await listen(await fixture.agent(recipient))
  const lines: Record<string, number> = {}
  const times: number[] = []
  let [sent, checked, read] = [0, 0, 0]

  const takeFigures = (): GatewayFigures => {
    for (const { event, code, reason, sender: from } of fixture.decisions.splice(0)) {
      if (from === sender.id && event === 'message') continue
      const count = Number(/(\d+) more were refused/.exec(reason ?? '')?.[1] ?? 1)
      const name = `${event} ${code ?? 'Check'}`
      lines[name] = (lines[name] ?? 0) + count
    }
    read += inbox.texts.splice(0).length
    inbox.messages.splice(0)
    globalThis.gc?.()
    const { rss, heapUsed } = process.memoryUsage()
    const sorted = times.toSorted((one, other) => one - other)
    const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN
    return {
      rssBytes: rss,
      heapBytes: heapUsed,
      lines,
      honest: { sent, checked, read, p50Ms: at(0.5), p99Ms: at(0.99) },
      errors: fixture.errors.map(String),
    }
  }

  let isOver = false
  const honest = (async () => {
    while (!isOver) {
      fixture.trust.heartbeat()
      sent += 1
      const startedAt = performance.now()
      const { verdict } = await from.send(recipient.id, sentText(`honest ${sent}`))
      if (verdict === 'Check') checked += 1
      times.push(performance.now() - startedAt)
      await new Promise(resolve => setTimeout(resolve, honestPauseMs))
    }
  })()
  process.on('message', async what => {
    if (what === 'figures') process.send?.(takeFigures())
    if (what !== 'end') return
    isOver = true
    await honest
    process.send?.(takeFigures())
    await fixture.stop()
    process.disconnect()
  })
  const started: AttackedGateway = {
    ...fixture.address,
    chainId: fixture.trust.chainId,
    group,
    recipient: recipientName,
  }
  process.send?.(started)
}

await serve()
