/**
 * The agent as a real process between real programs: applications are `mosquitto_pub` and `mosquitto_sub`, which know nothing of it.
 * Gateway and agents are killed with SIGKILL in between.
 */
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { askControl } from '../../devnet/control.ts'
import { choosePorts } from '../../devnet/ports.ts'
import { DevnetFixture } from '../support/devnet-fixture.ts'
import type { ForeignProgram } from '../support/foreign-program.ts'
import { until } from '../support/gateway-fixture.ts'
import { hasMosquittoClients, startMosquitto } from '../support/mosquitto-clients.ts'
import type { MoteCommand } from '../support/mote-command.ts'

const host = '127.0.0.1'
const celsius = { type: 'number', field: 'celsius', rule: { kind: 'integer', scale: 10 } } as const

describe.skipIf(!hasMosquittoClients)(
  'an application that stays as it is, which needs mosquitto_pub and mosquitto_sub',
  () => {
    let devnet: DevnetFixture
    let ports: readonly [number, number]
    const agents = new Map<string, { readonly command: MoteCommand; readonly pid: number }>()
    const subscribers: ForeignProgram[] = []
    beforeAll(async () => {
      devnet = await DevnetFixture.start('agent', ['--full', '1', '--lightweight', '0', '--devices', '2'])
      const [first = 0, second = 0] = await choosePorts(2, 'auto')
      ports = [first, second]
    })
    afterAll(async () => {
      for (const { command } of agents.values()) await command[Symbol.asyncDispose]()
      for (const subscriber of subscribers) subscriber.stop()
      await devnet.stop()
    })

    /** Starts an agent, as a service manager would start it again: with the same configuration. */
    async function start(name: string, port: number, routes: object): Promise<void> {
      const file = join(devnet.directory, `${name}.json`)
      await writeFile(file, JSON.stringify({ version: 1, mqtt: { host, port }, coap: false, ...routes }))
      const command = devnet.spawn('device', 'agent', name, '--config', file)
      const ready = await until(() => /^{"ready":true.*}$/m.exec(command.stdout)?.[0], `${name} is ready`)
      agents.set(name, { command, pid: (JSON.parse(ready) as { pid: number }).pid })
    }

    /** Nothing if it does not run: a test may be the first one. */
    async function kill(name: string): Promise<void> {
      const agent = agents.get(name)
      if (!agent) return
      agents.delete(name)
      process.kill(agent.pid, 'SIGKILL')
      await agent.command.ended
    }

    const gateway = (request: { command: 'restart' } | { command: 'signal'; signal: 'SIGKILL' }) =>
      askControl(
        devnet.description.controlSocket,
        { ...request, node: devnet.description.gateway.name },
        AbortSignal.timeout(30_000),
      )

    /** True if the agent has acknowledged it. */
    async function publish(port: number, topicName: string, text: string): Promise<boolean> {
      const words = ['-h', host, '-p', `${port}`, '-t', topicName, '-m', text]
      return (await startMosquitto('pub', words).ended).code === 0
    }

    /** An application that prints what it gets. */
    function subscribe(topicFilter: string, ...words: readonly string[]): ForeignProgram {
      const subscriber = startMosquitto('sub', ['-h', host, '-p', `${ports[1]}`, '-t', topicFilter, ...words])
      subscribers.push(subscriber)
      return subscriber
    }

    test('agent: nothing that it acknowledged is lost or comes twice, in order, through kill -9 of gateway and agents', async () => {
      const sender = {
        publish: [{ topic: 'room/temperature', device: '1112', delivery: 'received', format: celsius }],
      }
      const recipient = { deliver: [{ sender: '1111', topic: 'valve/{sender}', format: celsius }] }
      await Promise.all([start('1111', ports[0], sender), start('1112', ports[1], recipient)])
      const subscriber = subscribe('valve/#')
      const seen = () => subscriber.stdout.split('\n').filter(line => line !== '')
      const acknowledged: string[] = []
      let next = 0
      /** Publishes until so many more are acknowledged; one that is not may have arrived or not, and has no second try. */
      const flow = async (count: number): Promise<void> => {
        const end = acknowledged.length + count
        while (acknowledged.length < end) {
          next += 1
          const text = `${next / 10}`
          if (await publish(ports[0], 'room/temperature', text)) acknowledged.push(text)
        }
      }
      await flow(3)
      await until(() => seen().length >= 3, 'the first readings')
      // The gateway dies with messages under way, then the sender's agent with messages on its disk.
      await Promise.all([flow(8), gateway({ command: 'signal', signal: 'SIGKILL' })])
      await kill('1111')
      await kill('1112')
      await Promise.all([start('1111', ports[0], sender), start('1112', ports[1], recipient)])
      await flow(4)
      expect(seen().length).toBeLessThan(acknowledged.length)
      await Promise.all([gateway({ command: 'restart' }), flow(4)])
      // Once more while they flow.
      await kill('1111')
      await Promise.all([start('1111', ports[0], sender), flow(4)])
      await until(() => seen().includes(acknowledged.at(-1)!), 'the last reading')
      const isAcknowledged = new Set(acknowledged)
      expect(seen().filter(text => isAcknowledged.has(text))).toEqual(acknowledged)
      expect(new Set(seen()).size).toBe(seen().length)
      expect(agents.get('1111')!.command.stderr).toContain('mosquitto_pub -h')
    })

    test('agent: nothing is lost or comes twice while the recipient rotates its encryption key, to another kind too, and its agent is killed', async () => {
      // Its own channel: what was on its way to an application when the test before ended has no route here.
      const channel = 'rotated'
      const sender = { publish: [{ topic: 'to/1112', device: '1112', channel, delivery: 'received' }] }
      const recipient = { deliver: [{ sender: '1111', channel, topic: 'rotated/{sender}' }] }
      await Promise.all(['1111', '1112'].map(kill))
      await Promise.all([start('1111', ports[0], sender), start('1112', ports[1], recipient)])
      const subscriber = subscribe('rotated/#')
      const texts: string[] = []
      const send = async (count: number): Promise<void> => {
        for (let i = 0; i < count; i++) {
          texts.push(`m${texts.length}`)
          expect(await publish(ports[0], 'to/1112', texts.at(-1)!)).toBe(true)
        }
      }
      const rotate = async (...options: readonly string[]): Promise<void> => {
        const { code, stderr } = await devnet.mote(
          'device',
          'rotate',
          '1112',
          '--encryption',
          '--overlap',
          '0',
          ...options,
        )
        expect(code, stderr).toBe(0)
      }
      await send(1)
      await Promise.all([send(3), rotate('--encryption-key', 'p256')])
      await kill('1112')
      await Promise.all([send(3), rotate('--encryption-key', 'rsa-2048')])
      await Promise.all([send(1), start('1112', ports[1], recipient)])
      await until(() => subscriber.stdout.includes(`${texts.at(-1)}\n`), 'the last message')
      expect([...new Set(subscriber.stdout.trim().split('\n'))]).toEqual(texts)
      expect(agents.get('1111')!.command.stderr).toContain('recipient-key-mismatch')
    })

    test('agent: what an application publishes on a route to the chain is recorded once, signed by its device, through kill -9 of gateway and agent', async () => {
      const deployed = await devnet.mote('contract', 'deploy', 'examples/fire-index.json', '--json')
      expect(deployed.code, deployed.stderr).toBe(0)
      const { address } = JSON.parse(deployed.stdout) as { address: string }
      const routes = {
        publish: [
          { topic: 'forest/north', record: true, contract: address, publish: 'fire/north' },
          {
            topic: 'water/temperature',
            record: true,
            rules: [resolve('examples/temperature-guard.json')],
            onViolation: 'flag',
          },
        ],
      }
      await Promise.all(['1111', '1112'].map(kill))
      await start('1111', ports[0], routes)
      const news = startMosquitto('sub', ['-h', host, '-p', `${ports[0]}`, '-t', 'agent/#', '-v'])
      subscribers.push(news)
      const forest = { CS: 30, P: 10, H0: 70, H1: 70, H2: 70, H3: 70, H4: 70 }
      expect(await publish(ports[0], 'forest/north', JSON.stringify(forest))).toBe(true)
      const told = await until(() => /agent\/recorded (.*)/.exec(news.stdout)?.[1], 'it is recorded')
      expect(JSON.parse(told)).toMatchObject({ topic: 'forest/north', decision: 'extreme' })
      const measured: number[] = []
      const measure = async (...temperatures: readonly number[]): Promise<void> => {
        for (const temperature of temperatures) {
          measured.push(temperature)
          expect(await publish(ports[0], 'water/temperature', JSON.stringify({ temperature }))).toBe(true)
        }
      }
      await measure(20)
      await Promise.all([measure(21, 22, 23), gateway({ command: 'signal', signal: 'SIGKILL' })])
      await measure(24)
      await kill('1111')
      await Promise.all([start('1111', ports[0], routes), gateway({ command: 'restart' })])
      await measure(20)
      const list = ['record', 'list', '--device', '1111', '--topic', 'water/temperature', '--jsonl']
      let records: { readonly vouched: string; readonly values: object }[] = []
      while (records.length < measured.length) {
        const { code, stdout, stderr } = await devnet.mote(...list)
        expect(code, stderr).toBe(0)
        records = stdout.split('\n').flatMap(line => (line === '' ? [] : JSON.parse(line)))
      }
      expect(records.map(({ values }) => values)).toEqual(
        measured.map((temperature, i) =>
          // The last one is 4 degrees below the one before, which the agent knows after its restart.
          i === measured.length - 1 ? { flagged: 'temperature-guard: step', temperature } : { temperature },
        ),
      )
      expect(new Set(records.map(({ vouched }) => vouched))).toEqual(new Set(['device-signed']))
    })

    test('agent: what an application publishes to an open topic waits for a member whose agent was killed, and comes out on its route', async () => {
      const create = await devnet.mote('group', 'create', 'control', '1112', '--from', '1112', '--open')
      expect(create.code, create.stderr).toBe(0)
      await Promise.all(['1111', '1112'].map(kill))
      await start('1111', ports[0], {
        publish: [{ topic: 'level', openTopic: 'control', keepMs: 3_600_000 }],
      })
      for (const level of ['3', '4']) expect(await publish(ports[0], 'level', level)).toBe(true)
      await until(() => agents.get('1111')!.command.stderr.includes('connected'), 'it is connected')
      await start('1112', ports[1], {})
      const subscriber = subscribe('topic/#', '-v')
      await until(() => subscriber.stdout.split('\n').length > 2, 'both levels')
      expect(subscriber.stdout).toBe('topic/control/1111 3\ntopic/control/1111 4\n')
    })
  },
)
