/** Refusals that rest on rights and on who is in a group: on the chain, and at the gateway. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const rightsTest = 'test/unit/chain/rights.test.ts'
const groupTest = 'test/unit/chain/execute-group.test.ts'
const gatewayTest = 'test/e2e/gateway-rights.test.ts'
const access = 'mqtt-gateway/server/access.ts'
const rulings = 'mqtt-gateway/server/rulings.ts'

/** A statement whose condition never holds. */
const withoutCondition = (statement: string): string =>
  statement.replace(/^if \(.*\) return/, 'if (false) return')

const onTheChain: readonly RefusalCheck[] = [
  ...takenOut('chain/execute-identity.ts', rightsTest, {
    'rights: that were read before another operator changed them': 'if (current !== expectedVersion)',
    'rights: beyond the last version': 'if (current >= maxEditedVersion)',
  }),
  ...takenOut('chain/execute-group.ts', groupTest, {
    "group.owner: to replace another owner than the group's": 'if (group.owner !== from)',
  }),
  ...takenOut('chain/execute-group.ts', groupTest, {
    'group.create: an open topic with an epoch key and no boxes': 'if (topic && epochKeyHash)',
    'group.rekey: a topic key for a group, or none for an open topic':
      'if ((topic === undefined) !== (topicKey === undefined))',
  }),
  {
    refusal: 'group.create: publishers that are no group',
    file: 'chain/execute-group.ts',
    find: 'return publishers && !view.group(publishers)\n',
    replace: 'return false\n',
    test: groupTest,
  },
  {
    refusal: 'group.rekey: a topic key of small order',
    file: 'chain/execute-group.ts',
    find: 'return flaw === undefined ? permit(undefined) :',
    replace: 'return true ? permit(undefined) :',
    test: groupTest,
  },
  {
    refusal: 'rights: of a revoked identity',
    file: 'chain/execute-identity.ts',
    find: "if (record.status === 'revoked') return",
    replace: 'if (false) return',
    test: rightsTest,
  },
  {
    refusal: 'rights: a filter that is not plain',
    file: 'chain/rights.ts',
    find: 'return isPlainFilter(filter) ?',
    replace: 'return true ?',
    test: rightsTest,
  },
  {
    refusal: 'rights: filters out of order',
    file: 'chain/codec.ts',
    find: 'keyOf(values[i - 1] as T) < keyOf(value)',
    replace: 'true',
    test: rightsTest,
  },
  ...(
    [
      ['to who owns the group', 'if (owner === from) return'],
      ['to who is no member', 'if (!view.memberships(owner).includes(id)) return'],
      ['to who is not active', "if (status !== 'active') return reject('invalid-state', `owner:"],
    ] as const
  ).map(([who, find]) => ({
    refusal: `group.owner: ${who}`,
    file: 'chain/execute-group.ts',
    find,
    replace: withoutCondition(find),
    test: groupTest,
  })),
]

const atTheGateway: readonly RefusalCheck[] = [
  {
    refusal: "subscriptions: to more than the device's own topics",
    file: access,
    find: ": refuse(\n          'topic-not-allowed',\n          `filter:",
    replace: ": true ? ok('right') : refuse(\n          'topic-not-allowed',\n          `filter:",
    test: gatewayTest,
    only: 'subscriptions',
  },
  {
    refusal: 'subscriptions: by a right, while the chain is out of reach',
    file: access,
    find: '    await this.#read(held)\n    return (held',
    replace: '    await this.#readAgain(held)\n    return (held',
    test: gatewayTest,
    only: 'chain in reach',
  },
  {
    refusal: 'deliveries: by a right that was taken away',
    file: access,
    find: 'changed.has(stateKeyOf.rights(device)) ||',
    replace: '',
    test: gatewayTest,
    only: 'a right that is taken away',
  },
  {
    refusal: 'deliveries: by a right that is being read again',
    file: access,
    find: '      held.receives = undefined\n',
    replace: '',
    test: gatewayTest,
    only: 'have been read again',
  },
  {
    refusal: 'deliveries: to a member that a block took out meanwhile',
    file: rulings,
    find: 'if (facts.height >= trust.head().height) return facts',
    replace: 'if (true) return facts',
    test: gatewayTest,
    only: 'while a message is judged',
  },
  {
    refusal: 'deliveries: by the rights of a device that is not active any more',
    file: access,
    find: "record.value?.status === 'active' ? receivable",
    replace: 'true ? receivable',
    test: gatewayTest,
    only: 'before its session is cut',
  },
  {
    refusal: 'deliveries: by rights read before the block that ended the device',
    file: access,
    find: ' ||\n        changed.has(stateKeyOf.identity(device))',
    replace: '',
    test: gatewayTest,
    only: 'before its session is cut',
  },
  {
    refusal: 'messages: whose records change faster than they are read',
    file: rulings,
    find: "throw new MoteError('stale', 'records: they change faster than they are read')",
    replace: 'return facts',
    test: gatewayTest,
    only: 'faster than they are read',
  },
  {
    refusal: 'plain topics: of a sender that is not active any more',
    file: rulings,
    find: "if (record.value?.status !== 'active')",
    replace: never,
    test: gatewayTest,
    only: 'before its session is cut',
  },
  {
    refusal: 'plain topics: to publish without the right',
    file: rulings,
    find: 'if (isDecision || !rights.value?.publish.some(filter => covers(filter, topicName)))',
    replace: never,
    test: gatewayTest,
    only: 'plain topics',
  },
  {
    refusal: 'plain topics: while trust data is stale',
    file: rulings,
    find: '    const decision = await this.#refusalsAsDecision(async () => {\n      this.#requireFresh()\n      const { trust } = this.#options\n',
    replace:
      '    const decision = await this.#refusalsAsDecision(async () => {\n      const { trust } = this.#options\n',
    test: gatewayTest,
    only: 'without fresh trust data',
  },
]

const atTheDevice: readonly RefusalCheck[] = [
  {
    refusal: 'listeners: what another listener of the device gave out before',
    file: 'mqtt-gateway/device/listening-place.ts',
    find: 'ReplayWindow.union(maxDeviceReplayKeys, stored, now)',
    replace: 'ReplayWindow.union(maxDeviceReplayKeys, [], now)',
    test: 'test/unit/mqtt-gateway/listening-place.test.ts',
    only: 'before they came',
  },
  {
    refusal: 'listeners: what was given out before a restart',
    file: 'mqtt-gateway/device/listening-place.ts',
    find: 'await this.#write()\n      return taken\n',
    replace: 'return taken\n',
    test: 'test/unit/mqtt-gateway/listening-place.test.ts',
    only: 'after a restart',
  },
]

export const rights: readonly RefusalCheck[] = [...onTheChain, ...atTheGateway, ...atTheDevice]
