/** Starts the node that a configuration file describes: one composition root per label. */
import { MoteError } from '../chain/result.ts'
import { type Logger, openLog } from '../client/log.ts'
import { type NodeConfig, readNodeConfig } from './config.ts'
import { startCoordinationNode } from './coordination-node.ts'
import { lightConfiguration, logSettings, type NodeEnvironment } from './effective-configuration.ts'
import { type RunningNode, startFullNode } from './full-node.ts'
import { startLightweightNode } from './lightweight-node.ts'

export type { RunningNode } from './full-node.ts'

function startByLabel(file: NodeConfig, environment: NodeEnvironment, log: Logger): Promise<RunningNode> {
  if (file.label === 'full') return startFullNode(file, environment, log)
  const start = file.label === 'coordination' ? startCoordinationNode : startLightweightNode
  return start(lightConfiguration(file, environment), log)
}

/** Starts the node. `signal` gives up before it serves. Throws the `MoteError` that says what is in its way. */
export async function startNode(
  configFile: string,
  signal?: AbortSignal,
  { supervised = false, logFile }: Partial<NodeEnvironment> = {},
): Promise<RunningNode> {
  const config = await readNodeConfig(configFile)
  const environment = { supervised, logFile }
  const settings = logSettings(config, environment)
  const { log, close } = await openLog({ ...settings, name: config.name })
  try {
    const node = await startByLabel(config, environment, log)
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
    // Whoever started it prints the error; a log of its own must say it too.
    if (settings.file !== undefined) log.fatal({ error: String(error) }, 'not started')
    close()
    throw error
  }
}
