/** Starts the node that a configuration file describes: one composition root per label. */
import { MoteError } from '../chain/result.ts'
import { readNodeConfig } from './config.ts'
import { type RunningNode, startFullNode } from './full-node.ts'
import { openLog } from './log.ts'

export type { RunningNode } from './full-node.ts'

/** Starts the node; `signal` gives up before it serves. Throws the `MoteError` that says what is in its way. */
export async function startNode(configFile: string, signal?: AbortSignal): Promise<RunningNode> {
  const config = await readNodeConfig(configFile)
  const { log, close } = await openLog({ ...config.log, name: config.name })
  try {
    if (config.label !== 'full')
      throw new MoteError('config-invalid', `label: expected full, got ${config.label}`)
    const node = await startFullNode(config, log)
    if (signal?.aborted) {
      await node.stop()
      throw new MoteError('interrupted', 'stopped while starting')
    }
    return {
      ...node,
      stop: async () => {
        await node.stop()
        close()
      },
    }
  } catch (error) {
    log.fatal({ error: String(error) }, 'not started')
    close()
    throw error
  }
}
