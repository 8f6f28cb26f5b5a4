import { describe, expect, test } from 'vitest'
import type { IdentityRecord } from '../../../chain/records.ts'
import type { MoteError } from '../../../chain/result.ts'
import { nextCommand, requireRunnable } from '../../../cli/joined-node.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import { makeKeys } from '../../../client/key-directory.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const keys = keysOf('sensor')

async function recordOf(): Promise<IdentityRecord> {
  const chain = new TestChain({ devices: ['sensor'] })
  const client = await ChainClient.open({ sources: [chain.source()], checkpoint: chain.checkpoint })
  await client.follower.sync()
  return (await client.records.device(keys.id)).value!
}

function codeOf(work: () => unknown): string {
  try {
    work()
    return 'ok'
  } catch (error) {
    return (error as MoteError).code
  }
}

describe('joined node', () => {
  test('runs if its record is active, of this label, and names its transport key', async () => {
    const record = await recordOf()
    const judged = (change: Partial<IdentityRecord>, label?: IdentityRecord['label']) =>
      codeOf(() => requireRunnable('sensor', keys, { ...record, ...change }, label))
    expect(judged({})).toBe('ok')
    expect(judged({}, 'lightweight')).toBe('ok')
    expect(judged({}, 'coordination')).toBe('already-exists')
    expect(judged({ status: 'revoked' })).toBe('device-revoked')
    expect(judged({ status: 'suspended' })).toBe('not-authorised')
    expect(judged({ status: 'pending' })).toBe('not-authorised')
    expect(judged({ transportKey: undefined })).toBe('key-not-found')
    expect(judged({ transportKey: new Uint8Array(32) })).toBe('key-not-found')
    expect(codeOf(() => requireRunnable('sensor', makeKeys('sensor'), record))).toBe('key-not-found')
    expect(codeOf(() => requireRunnable('sensor', keys, undefined))).toBe('not-found')
  })

  test('the next command names the directory as a shell reads it', () => {
    const at = (directory: string, directoryNamed: boolean) =>
      nextCommand({ directory, directoryNamed }, 'sensor-9', 'lightweight')
    expect(at('/tmp/net', false)).toBe(
      'npx mote node init sensor-9 --label lightweight && npx mote node start --config /tmp/net/nodes/sensor-9/config.json',
    )
    expect(at("/tmp/it's here", true)).toBe(
      "npx mote node init sensor-9 --label lightweight --dir '/tmp/it'\\''s here' && " +
        "npx mote node start --config '/tmp/it'\\''s here/nodes/sensor-9/config.json'",
    )
  })
})
