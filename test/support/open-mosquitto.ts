/** Mosquitto as its package has it, on a free port of loopback and open to anybody: what ours is compared with. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { choosePorts } from '../../devnet/ports.ts'
import type { BrokerAddress } from '../../mqtt-gateway/server/broker.ts'

export const hasMosquitto = spawnSync('mosquitto', ['-h']).error === undefined

export interface OpenMosquitto extends AsyncDisposable {
  readonly address: BrokerAddress
}

export async function startOpenMosquitto(): Promise<OpenMosquitto> {
  const directory = await mkdtemp(join(tmpdir(), 'mote-mosquitto-'))
  const host = '127.0.0.1'
  const [port] = (await choosePorts(1, 'auto')) as [number]
  const configuration = join(directory, 'mosquitto.conf')
  await writeFile(configuration, `listener ${port} ${host}\nallow_anonymous true\n`)
  const child = spawn('mosquitto', ['-c', configuration], { stdio: ['ignore', 'ignore', 'pipe'] })
  for await (const line of child.stderr ?? []) if (String(line).includes('running')) break
  return {
    address: { host, port },
    async [Symbol.asyncDispose]() {
      child.kill()
      if (child.exitCode === null) await once(child, 'exit')
      await rm(directory, { recursive: true })
    },
  }
}
