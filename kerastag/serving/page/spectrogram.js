import { readPalette } from "./palette.js";

const TILE_COLUMNS = 512;

/** Columns of a log-mel spectrogram as images, which are colored once and drawn at any zoom. */
export class Spectrogram {
  #tiles = []; // Each is a canvas of up to `TILE_COLUMNS` columns.
  #blocks = [];

  constructor(numBands) {
    this.numBands = numBands;
    this.numColumns = 0;
  }

  /** Append whole columns of values from 0 to 255, the lowest band first. */
  append(values) {
    this.#blocks.push(values);
    this.#paint(values);
  }

  /** Color everything again, in the colors of another theme. */
  recolor() {
    this.#tiles = [];
    this.numColumns = 0;
    for (const values of this.#blocks) this.#paint(values);
  }

  #paint(values) {
    const palette = readPalette();
    const count = values.length / this.numBands;
    for (let done = 0; done < count;) {
      const column = this.numColumns % TILE_COLUMNS;
      if (column === 0) this.#tiles.push(new OffscreenCanvas(TILE_COLUMNS, this.numBands));
      const context = this.#tiles.at(-1).getContext("2d");
      const width = Math.min(count - done, TILE_COLUMNS - column);
      const image = context.createImageData(width, this.numBands);
      const pixels = new Uint32Array(image.data.buffer);
      for (let x = 0; x < width; x++) {
        for (let band = 0; band < this.numBands; band++) {
          const value = values[(done + x) * this.numBands + band];
          pixels[(this.numBands - 1 - band) * width + x] = palette[value];
        }
      }
      context.putImageData(image, column, 0);
      this.numColumns += width;
      done += width;
    }
  }

  /** Draw columns, given as fractions, to the pixels from 0 to `width` of a canvas. */
  draw(context, firstColumn, endColumn, width, height) {
    const scale = width / (endColumn - firstColumn);
    context.imageSmoothingEnabled = scale < 3; // Columns that are wide show as what they are.
    const last = Math.min(this.#tiles.length - 1, Math.floor(endColumn / TILE_COLUMNS));
    for (let tile = Math.max(0, Math.floor(firstColumn / TILE_COLUMNS)); tile <= last; tile++) {
      const start = tile * TILE_COLUMNS;
      const columns = Math.min(TILE_COLUMNS, this.numColumns - start);
      const x = Math.round((start - firstColumn) * scale);
      const end = Math.round((start + columns - firstColumn) * scale);
      context.drawImage(this.#tiles[tile], 0, 0, columns, this.numBands, x, 0, end - x, height);
    }
  }
}
