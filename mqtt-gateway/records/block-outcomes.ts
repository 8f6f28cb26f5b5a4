/**
 * Outcomes of what another gateway brought to the chain: each new certified block is looked through for the transactions that are open here, so
 * that answers go back past the queue. What stands in a block that was passed over is found by whoever loses patience (durable-recorder.ts).
 */
import { Height } from '../../chain/brands.ts'
import { merkleRoot } from '../../chain/merkle.ts'
import type { CertifiedBlocks } from '../../client/certified-blocks.ts'
import type { DurableRecorder } from './durable-recorder.ts'
import { executionIn } from './executions.ts'

/** Blocks that are looked through behind the head, at most. */
const maxBlocksBehind = 256

const nothing = merkleRoot([])

export interface BlockOutcomesParts {
  readonly blocks: Pick<CertifiedBlocks, 'head' | 'onAdvance' | 'recent' | 'receipts'>
  readonly recorder: Pick<DurableRecorder, 'isOpen' | 'openCount' | 'settled'>
  readonly onError: (error: unknown) => void
}

/** Looks through every new block until the returned function is called. */
export function followOutcomes({ blocks, recorder, onError }: BlockOutcomesParts): () => void {
  let next = blocks.head + 1
  let isReading = false
  const read = async (height: Height): Promise<void> => {
    const block = blocks.recent(height)
    if (!block || block.receiptsRoot === nothing || recorder.openCount === 0) return
    const receipts = await blocks.receipts(block)
    for (const { id } of receipts.filter(receipt => recorder.isOpen(receipt.id))) {
      const execution = executionIn(receipts, { id }, height)
      if (execution) recorder.settled({ id }, { type: 'executed', ...execution })
    }
  }
  const readAll = async (): Promise<void> => {
    if (isReading) return
    isReading = true
    while (next <= blocks.head) {
      next = Math.max(next, blocks.head - maxBlocksBehind)
      await read(Height(next)).catch(onError)
      next += 1
    }
    isReading = false
  }
  return blocks.onAdvance(() => void readAll())
}
