/** What `mote devnet up` and `mote devnet status` print. */
import { describe, expect, test } from 'vitest'
import { DeviceId } from '../../../chain/brands.ts'
import { nextSteps } from '../../../cli/devnet-status.ts'
import { privateDirectory } from '../../../client/atomic-file.ts'
import { writeNodeConfiguration } from '../../../devnet/configuration.ts'
import { serveControl } from '../../../devnet/control.ts'
import { type DevnetNode, layout, readDescription } from '../../../devnet/layout.ts'
import type { NodeRow, ProcessStatus } from '../../../devnet/process-status.ts'
import { serveChain } from '../../support/served-chain.ts'
import { type ServedDevnet, serveDevnet } from '../../support/served-devnet.ts'
import { keysOf } from '../../support/test-chain.ts'

const id = DeviceId('a'.repeat(64))

function devnet(labels: readonly string[], names: readonly string[]) {
  const nodes = labels.map((label, i) => ({ name: `${label}-${i}`, label }) as DevnetNode)
  return { nodes, devices: names.map(name => ({ name, id })) }
}

const consenters = ['full', 'full', 'full']
const stepsOf = (labels: readonly string[], names: readonly string[]): string[] =>
  nextSteps(devnet(labels, names), ' --dir D')
    .split('\n')
    .slice(1)
    .map(line => line.trim())

describe('what `mote devnet up` suggests', () => {
  test('four devices: the third one, which shares a group with the first', () => {
    expect(stepsOf([...consenters, 'coordination'], ['1111', '1112', '1113', '1114'])).toEqual([
      'npx mote device trust 1113 --dir D',
      'npx mote device listen 1113 --dir D',
      'npx mote device send 1113 "hello" --from 1111 --dir D',
      'npx mote chaos kill-leader --watch --dir D',
      'npx mote devnet down --dir D',
    ])
  })

  test('two, one and no device: names only devices that are there', () => {
    const two = stepsOf(consenters, ['1111', '1112']).join('\n')
    expect(two).toContain('send 1112 "hello" --from 1111')
    expect(two).not.toContain('1113')
    const one = stepsOf(consenters, ['1111']).join('\n')
    expect(one).toContain('trust 1111')
    expect(one).not.toMatch(/send|listen/)
    const none = stepsOf([...consenters, 'coordination'], [])
    expect(none[0]).toBe('npx mote device join sensor-9 --dir D')
    expect(none.join('\n')).not.toMatch(/111|undefined/)
    expect(stepsOf(consenters, []).join('\n')).not.toContain('join')
  })

  test('one full node: losing the leader would stop the chain, so it is not suggested', () => {
    expect(stepsOf(['full'], ['1111']).join('\n')).not.toContain('kill-leader')
  })
})

describe('devices that joined', () => {
  const names = ['sensor', 'runs-by-itself', 'runs-nowhere', 'revoked'] as const

  function row(name: string, label: string, servedBy: string | null): NodeRow {
    const silent = { role: null, term: null, height: null, certifiedHeight: null, lag: null, leader: null }
    const clock = { clockOffsetMs: 0, oddClocks: [] }
    return {
      name,
      id: keysOf(name).id,
      label,
      state: 'answers',
      supervised: true,
      servedBy,
      pid: 7,
      api: '',
      addresses: [],
      ...silent,
      ...clock,
    }
  }

  /** The configuration of a node that the supervisor does not know, and the node itself as far as its status goes. */
  async function runByItself({ chain, directory }: ServedDevnet, name: string, server: string) {
    const { id } = keysOf(name)
    const source = chain.source(name)
    const status = await source.status()
    source.status = async () => ({ ...status, id, servedBy: keysOf(server).id })
    const served = await serveChain(source)
    const address = { host: served.host, port: served.port }
    const node = { name, id, label: 'lightweight', api: address, p2p: address, joined: true } as const
    await privateDirectory(layout.node(directory, name))
    await writeNodeConfiguration(directory, (await readDescription(directory))!, node)
    return served
  }

  test('are listed with label, status, level, and the full node that serves each', async () => {
    await using devnet = await serveDevnet({ devices: names })
    const { chain, directory } = devnet
    for (const name of names) await devnet.keep(keysOf(name))
    await devnet.keep(keysOf('never-registered'))
    chain.revoke(keysOf('revoked').id)
    const gateway = {
      name: 'gateway',
      id: keysOf('gateway').id,
      state: 'running',
      pid: 8,
      clockOffsetMs: 0,
      mqtt: 'mqtt://x',
    }
    const status: ProcessStatus = {
      agents: null,
      nodes: [row('full-1', 'full', null), row('sensor', 'lightweight', 'full-2')],
      gateway,
    }
    await using _node = await runByItself(devnet, 'runs-by-itself', 'full-3')
    const server = await serveControl(layout.controlSocket(directory), async () => status)
    try {
      const text = (await devnet.mote('devnet', 'status')).stdout
      expect(tableBelow(text, 'device')).toEqual([
        ['device', 'label', 'status', 'level', 'served by'],
        ['revoked', 'lightweight', 'revoked', '3', '-'],
        ['runs-by-itself', 'lightweight', 'active', '3', 'full-3'],
        ['runs-nowhere', 'lightweight', 'active', '3', '-'],
        ['sensor', 'lightweight', 'active', '3', 'full-2'],
      ])
      const nodes = tableBelow(text, 'node')
      expect(nodes.map(([name, , state]) => `${name} ${state}`)).toEqual([
        'node state',
        'full-1 answers',
        'runs-by-itself answers, started by hand',
        'sensor answers',
      ])
      const { devices, height } = JSON.parse((await devnet.mote('devnet', 'status', '--json')).stdout)
      expect(height).toBe(chain.height)
      expect(devices.find(({ name }: { readonly name: string }) => name === 'sensor')).toEqual({
        name: 'sensor',
        id: keysOf('sensor').id,
        label: 'lightweight',
        status: 'active',
        level: 3,
        servedBy: 'full-2',
      })
    } finally {
      server.close()
    }
  })
})

/** The cells of the table whose first heading is this, its rows in the order of their names. */
function tableBelow(text: string, heading: string): string[][] {
  const lines = text.split('\n')
  const from = lines.findIndex(line => line.startsWith(`${heading} `))
  const rows = lines.slice(from, lines.indexOf('', from)).map(line => line.split(/ {2,}/))
  return [rows[0]!, ...rows.slice(1).sort()]
}
