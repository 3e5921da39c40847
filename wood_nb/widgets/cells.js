// Points sorted into the cells of a grid, so that the nearest one is found without looking at all.
const CELLS = 96;

export class Cells {
  constructor(xy, count = xy.length / 2) {
    this.xy = xy;
    this.cells = Array.from({ length: CELLS * CELLS }, () => []);
    for (let i = 0; i < count; i++) this.cells[this.cell(xy[2 * i]) + CELLS * this.cell(xy[2 * i + 1])].push(i);
  }
  cell(v) { return Math.min(CELLS - 1, Math.max(0, Math.floor(v * CELLS))); }
  near(x, y, reach, stretch, skip) {
    let best = -1, least = reach * reach;
    for (let row = this.cell(y - reach); row <= this.cell(y + reach); row++)
      for (let column = this.cell(x - reach); column <= this.cell(x + reach); column++)
        for (const i of this.cells[column + CELLS * row]) {
          const far = ((this.xy[2 * i] - x) * stretch) ** 2 + (this.xy[2 * i + 1] - y) ** 2;
          if (far <= least && !skip(i)) { least = far; best = i; }
        }
    return best;
  }
}
