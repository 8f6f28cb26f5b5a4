/**
 * `npm run test:malformed -- --packets N --seed S`: sends so many packets and payloads that are wrong to a gateway, and prints what it came to.
 * Exit codes: 0 all held, 1 something did not, 2 usage.
 */
import { parseArgs } from 'node:util'
import { failuresOf, runMalformed } from './run.ts'

const usage = 'usage: npm run test:malformed -- [--packets N (100000)] [--seed N (1)]\n'

function natural(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) {
    process.stderr.write(usage)
    process.exit(2)
  }
  return Number(text)
}

const { values } = parseArgs({
  options: { packets: { type: 'string', default: '100000' }, seed: { type: 'string', default: '1' } },
})
const options = { packets: natural(values.packets), seed: natural(values.seed) }
const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`

const report = await runMalformed({
  ...options,
  onFigures: (sent, { rssBytes, heapBytes, honest }) => {
    const latency = `${honest.p50Ms.toFixed(1)} ms, p99 ${honest.p99Ms.toFixed(1)} ms`
    process.stderr.write(
      `${sent} sent; gateway ${mebibytes(rssBytes)}, heap ${mebibytes(heapBytes)}; honest ${honest.checked} of ${honest.sent}, p50 ${latency}\n`,
    )
  },
})
const { counts, seconds, figures } = report
const failures = failuresOf(report)
const { lines, honest } = figures.at(-1) ?? { lines: {}, honest: undefined }
process.stdout.write(
  `${JSON.stringify({ ...options, seconds: Math.round(seconds), ...counts, honest, lines, failures }, undefined, 2)}\n`,
)
process.exitCode = failures.length === 0 ? 0 : 1
