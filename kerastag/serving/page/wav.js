/**
 * Make a mono WAV file of 16 bits.
 *
 * @param {Int16Array[]} blocks - Samples, in order; they are not copied.
 * @param {number} sampleRate
 * @returns {Blob}
 */
export function createWav(blocks, sampleRate) {
  const bytes = blocks.reduce((sum, block) => sum + block.byteLength, 0);
  const header = new DataView(new ArrayBuffer(44));
  const write = (offset, text) => [...text].forEach((letter, k) => header.setUint8(offset + k, letter.charCodeAt(0)));
  write(0, "RIFF");
  header.setUint32(4, 36 + bytes, true);
  write(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // length of the format
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, 2 * sampleRate, true);
  header.setUint16(32, 2, true); // bytes per frame
  header.setUint16(34, 16, true); // bits per sample
  write(36, "data");
  header.setUint32(40, bytes, true);
  return new Blob([header.buffer, ...blocks], { type: "audio/wav" });
}

/** Convert samples in [-1, 1] to 16 bits. */
export function convertTo16Bits(samples) {
  return Int16Array.from(samples, (sample) => Math.round(32767 * Math.min(Math.max(sample, -1), 1)));
}
