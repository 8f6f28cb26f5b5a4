import { describe, expect, test } from 'vitest'
import { DeviceId } from '../../../chain/brands.ts'
import { nextSteps } from '../../../cli/devnet-status.ts'
import type { DevnetNode } from '../../../devnet/layout.ts'

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
