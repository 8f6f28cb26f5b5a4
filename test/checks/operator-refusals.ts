/** What a node's HTTP API, `mote node drain` and a devnet's supervisor refuse (refusals.ts). */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

export const operators: readonly RefusalCheck[] = [
  ...takenOut('node/service/callers.ts', 'test/unit/node/api-callers.test.ts', {
    'to change something for a web page': 'if (headers.origin !== undefined)',
    'to change something by a form': 'if (![octets, json].includes(type.trim().toLowerCase()))',
    'administration without the token': 'if (!hasToken(headers.authorization, token))',
  }),
  {
    refusal: 'to change something by a name that is bound to this machine',
    file: 'node/service/callers.ts',
    find: 'if (isLocal(socket)) mustNameThisMachine',
    replace: 'if (false) mustNameThisMachine',
    test: 'test/unit/node/api-callers.test.ts',
  },
  {
    refusal: 'to stop a process that an answer over HTTP names',
    file: 'cli/node.ts',
    find: 'if (status.pid !== access.pid)',
    replace: never,
    test: 'test/unit/cli/node-drain.test.ts',
  },
  {
    refusal: 'to stop a later process with the id of the node',
    file: 'client/operator-access.ts',
    find: ' && (startOfProcess(pid) ?? null) === start',
    replace: '',
    test: 'test/unit/cli/node-drain.test.ts',
  },
  {
    refusal: 'to listen for control at a path that another user can prepare',
    file: 'devnet/layout.ts',
    find: 'await mkdtemp(join(tmpdir(), controlPrefix))',
    replace: 'join(tmpdir(), controlPrefix)',
    test: 'test/unit/devnet/supervision.test.ts',
    only: 'nobody can tell beforehand',
  },
]
