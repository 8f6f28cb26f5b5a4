/**
 * Two projects: everything in one process runs in parallel; tests that start processes or open many sockets
 * (test/e2e) run one file after another, so that they do not compete for the two cores they are measured on.
 *
 * A time-out ends what hangs; it is no measure of speed. It is many times what the slowest test takes alone, because the
 * machine may be busy with something else.
 */
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    reporters: ['default', './test/reporter.ts'],
    globalSetup: ['./test/leftovers.ts', './test/bundle.ts'],
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/e2e/**', '**/node_modules/**'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
