/**
 * Mosquitto, where it is installed, as a reference for test/support/malformed-packets.ts: it closes on what is malformed
 * there, with the exceptions named below, and takes what is right there.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { choosePorts } from '../../devnet/ports.ts'
import { malformedPackets, rightPackets, type SamplePacket } from '../support/malformed-packets.ts'

/** Where Mosquitto 2.0.11 is kinder than the standard. */
const taken = [
  'PUBACK with a flag',
  'PUBACK with a longer body',
  'PUBREL with a longer body',
  'PINGREQ with a flag',
  'PINGREQ with a body',
  'SUBACK, which a server sends',
  'UNSUBACK, which a server sends',
  'PINGRESP, which a server sends',
  'DUP at QoS 0',
]

const host = '127.0.0.1'
const isInstalled = spawnSync('mosquitto', ['-h']).error === undefined
const connectPacket = Buffer.from('100d00044d5154540402000a000171', 'hex')
const pingRequest = Buffer.from('c000', 'hex')

/** Whether the server closes, or answers a PINGREQ that follows. */
function outcomeOf({ isFirst, bytes }: SamplePacket, port: number): Promise<'closed' | 'taken'> {
  const { promise, resolve } = Promise.withResolvers<'closed' | 'taken'>()
  const socket = connect(port, host)
  const received: Buffer[] = []
  socket.on('error', () => {})
  socket.on('close', () => resolve('closed'))
  socket.on('data', chunk => {
    received.push(chunk)
    if (Buffer.concat(received).toString('hex').endsWith('d000')) resolve('taken')
  })
  socket.write(Buffer.concat(isFirst ? [bytes, pingRequest] : [connectPacket, bytes, pingRequest]))
  // It waits for more of a packet whose length was not announced right.
  socket.setTimeout(2_000, () => socket.destroy())
  return promise.finally(() => socket.destroy())
}

describe.skipIf(!isInstalled)('a reference, which needs mosquitto', () => {
  let broker: ChildProcess
  let directory: string
  let port: number
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'mote-mosquitto-'))
    ;[port] = (await choosePorts(1, 'auto')) as [number]
    const file = join(directory, 'mosquitto.conf')
    await writeFile(file, `listener ${port} ${host}\nallow_anonymous true\n`)
    broker = spawn('mosquitto', ['-c', file], { stdio: ['ignore', 'ignore', 'pipe'] })
    for await (const line of broker.stderr ?? []) if (String(line).includes('running')) break
  })
  afterAll(async () => {
    broker.kill()
    await rm(directory, { recursive: true })
  })

  test.each(malformedPackets.filter(({ what }) => !taken.includes(what)))(
    'mosquitto: closes on $what [$statement]',
    async sample => {
      expect(await outcomeOf(sample, port)).toBe('closed')
    },
  )

  test.each(rightPackets)('mosquitto: takes $what [$statement]', async sample => {
    expect(await outcomeOf(sample, port)).toBe('taken')
  })
})
