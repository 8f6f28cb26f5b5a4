/** A value over time, drawn with characters: 60 columns, 12 rows, and nothing that a terminal may lack. */

export interface PlotPoint {
  /** Milliseconds since 1970. */
  readonly time: number
  readonly value: number
}

const plotColumns = 60
const plotRows = 12

/** Rows from the greatest value down, with the scale at the left and the times below; several points of one column are its last. */
export function plotText(points: readonly PlotPoint[]): string {
  const [first, last] = [points[0], points.at(-1)]
  if (!first || !last) return 'nothing to draw'
  const values = points.map(({ value }) => value)
  const [low, high] = [Math.min(...values), Math.max(...values)]
  const cells = Array.from({ length: plotRows }, () => Array.from({ length: plotColumns }, () => ' '))
  for (const { time, value } of points) {
    const column = scaled(time - first.time, last.time - first.time, plotColumns)
    const row = scaled(high - value, high - low, plotRows)
    ;(cells[row] as string[])[column] = '*'
  }
  const labels = cells.map((_, row) => (high - ((high - low) * row) / (plotRows - 1)).toPrecision(6))
  const width = Math.max(...labels.map(label => label.length))
  const drawn = cells.map((row, i) => `${(labels[i] as string).padStart(width)} |${row.join('').trimEnd()}`)
  const times = [first, last].map(({ time }) => new Date(time).toISOString())
  return [
    ...drawn,
    `${' '.repeat(width)} +${'-'.repeat(plotColumns)}`,
    `${' '.repeat(width)}  ${times.join('  to  ')}`,
  ].join('\n')
}

/** Where a part of a whole lies among `cells`; the middle if there is no whole. */
function scaled(part: number, whole: number, cells: number): number {
  return whole === 0 ? Math.floor(cells / 2) : Math.round((part / whole) * (cells - 1))
}
