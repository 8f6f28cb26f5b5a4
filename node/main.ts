/** Starts the node that a configuration file describes: one composition root per label. */
import { MoteError } from '../chain/result.ts'
import { type Logger, openLog } from '../client/log.ts'
import { type NodeConfig, readNodeConfig } from './config.ts'
import { startCoordinationNode } from './coordination-node.ts'
import { type RunningNode, startFullNode } from './full-node.ts'
import { startLightweightNode } from './lightweight-node.ts'

export type { RunningNode } from './full-node.ts'

const startByLabel: Readonly<
  Record<NodeConfig['label'], (config: NodeConfig, log: Logger) => Promise<RunningNode>>
> = {
  full: startFullNode,
  coordination: startCoordinationNode,
  lightweight: startLightweightNode,
}

/** Starts the node; it logs to `logFile` where its configuration names no file. `signal` gives up before it serves. Throws the `MoteError` that says what is in its way. */
export async function startNode(
  configFile: string,
  signal?: AbortSignal,
  options: { readonly logFile?: string } = {},
): Promise<RunningNode> {
  const config = await readNodeConfig(configFile)
  const { log, close } = await openLog({
    ...config.log,
    file: config.log.file ?? options.logFile,
    name: config.name,
  })
  try {
    const node = await startByLabel[config.label](config, log)
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
