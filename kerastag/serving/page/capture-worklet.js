/** Passes the first channel of the microphone on in blocks. */
class Capture extends AudioWorkletProcessor {
  #block = new Float32Array(2048);
  #length = 0;

  process([[channel]]) {
    if (!channel) return true;
    for (let start = 0; start < channel.length;) {
      const count = Math.min(channel.length - start, this.#block.length - this.#length);
      this.#block.set(channel.subarray(start, start + count), this.#length);
      this.#length += count;
      start += count;
      if (this.#length === this.#block.length) {
        this.port.postMessage(this.#block, [this.#block.buffer]);
        this.#block = new Float32Array(2048);
        this.#length = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
