import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  type NodeConfigFile,
  parseNodeConfig,
  readNodeConfig,
  writeNodeConfig,
} from '../../../node/config.ts'

const id = 'ab'.repeat(32)
const config: NodeConfigFile = {
  version: 1,
  name: 'full-1',
  label: 'full',
  chainId: id,
  genesis: '../genesis.json',
  data: 'data',
  key: '/keys/full-1.json',
  api: { host: '127.0.0.1', port: 4100 },
  p2p: { host: '127.0.0.1', port: 0 },
  peers: [{ id, address: '/ip4/127.0.0.1/tcp/4001', api: 'http://127.0.0.1:4101/' }],
  coordination: [],
}
const parse = (value: object) => parseNodeConfig(JSON.stringify(value), '/nodes/full-1/config.json')

describe('node configuration', () => {
  test('makes paths absolute from the file, and fills nothing in', () => {
    expect(parse(config)).toMatchObject({
      genesis: '/nodes/genesis.json',
      data: '/nodes/full-1/data',
      key: '/keys/full-1.json',
      peers: [{ id, address: '/ip4/127.0.0.1/tcp/4001' }],
      trustTtlMs: undefined,
      raft: {},
      log: {},
    })
  })

  test.each<[string, object, string]>([
    ['a wrong version', { ...config, version: 2 }, 'version: expected 1, got 2'],
    ['a missing field', { ...config, genesis: undefined }, 'genesis: expected a value, got nothing'],
    ['a missing inner field', { ...config, api: { host: 'x' } }, 'api.port: expected a value, got nothing'],
    ['an unknown field', { ...config, colour: 'red' }, 'colour: expected no such field'],
    [
      'an unknown inner field',
      { ...config, peers: [{ ...config.peers[0], x: 1 }] },
      'peers[0].x: expected no such field',
    ],
    [
      'an id that is none',
      { ...config, chainId: 'AB' },
      'chainId: expected 64 lowercase hexadecimal characters, got "AB"',
    ],
    [
      'a label that is none',
      { ...config, label: 'big' },
      'label: expected one of full, coordination, lightweight, got "big"',
    ],
    [
      'a port out of range',
      { ...config, api: { host: 'x', port: 70_000 } },
      'api.port: expected <= 65535, got 70000',
    ],
    [
      'an address that is no multiaddr',
      { ...config, peers: [{ id, address: '127.0.0.1:4001' }] },
      'peers[0].address: expected a multiaddr such as /ip4/127.0.0.1/tcp/4001, got "127.0.0.1:4001"',
    ],
    [
      'a full node without p2p',
      { ...config, p2p: undefined },
      'p2p: expected an address to listen on for a full node',
    ],
    [
      'a full node without a clock',
      { ...config, clock: 'none' },
      'clock: expected wall for a full node, which shows its clock to the others, got none',
    ],
    ['an offset of the clock', { ...config, clock: '+1h' }, 'clock: expected one of wall, none, got "+1h"'],
    [
      'a host name for p2p',
      { ...config, p2p: { host: 'localhost', port: 1 } },
      'p2p.host: expected an IP address',
    ],
    [
      'a heartbeat slower than the timeout',
      { ...config, raft: { heartbeatTicks: 6, electionTimeoutTicks: 10 } },
      'raft.electionTimeoutTicks: expected at least twice heartbeatTicks (6), got 10',
    ],
  ])('refuses %s, naming the field', (_, value, detail) => {
    expect(() => parse(value)).toThrow(
      expect.objectContaining({ code: 'config-invalid', detail: expect.stringContaining(detail) }),
    )
  })

  test('refuses what is not JSON, and a file that is not there', async () => {
    expect(() => parseNodeConfig('{', 'f')).toThrow(expect.objectContaining({ code: 'config-invalid' }))
    await expect(readNodeConfig('/nowhere/config.json')).rejects.toMatchObject({ code: 'config-invalid' })
  })

  test('writes what it reads', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'mote-config-'))
    try {
      const file = join(directory, 'config.json')
      await writeNodeConfig(file, config)
      expect((await readNodeConfig(file)).data).toBe(join(directory, 'data'))
      await expect(writeNodeConfig(file, { ...config, chainId: 'x' })).rejects.toMatchObject({
        code: 'config-invalid',
      })
    } finally {
      await rm(directory, { recursive: true })
    }
  })
})
