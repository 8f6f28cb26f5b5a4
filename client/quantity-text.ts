/** Quantities as documents and commands write them: the name of a quantity says whether it is bytes or milliseconds. */

type Units = readonly (readonly [name: string, size: number])[]

const byteUnits: Units = [
  ['GiB', 1024 ** 3],
  ['MiB', 1024 ** 2],
  ['KiB', 1024],
  ['B', 1],
]
const timeUnits: Units = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1_000],
  ['ms', 1],
]

/** `16 MiB`, `5 s`, `2,000`: in the largest unit that gives a whole number. `maxBytes`, `watchMs` and `retryDelayMsMax` have units. */
export function quantityText(name: string, value: number): string {
  const units = /bytes/i.test(name.split('.').at(-1) ?? '')
    ? byteUnits
    : /Ms(Max|Min)?$/.test(name)
      ? timeUnits
      : undefined
  const [unit, size] = units?.find(([, each]) => value >= each && value % each === 0) ?? ['', 1]
  return `${(value / size).toLocaleString('en-US')} ${unit}`.trim()
}
