const CLICK_PIXELS = 4;

/**
 * Let pointers and wheels move through time on some canvases: a click seeks, a drag pans, two fingers and the wheel zoom.
 *
 * @param {HTMLElement} element - The element whose canvases show time.
 * @param {Viewport} viewport
 * @param {(seconds: number) => void} onSeek
 */
export function addGestures(element, viewport, onSeek) {
  const pointers = new Map(); // Position of each finger, or of the mouse while its button is down.
  let traveled = 0;

  const getTime = (canvas, clientX) => {
    const box = canvas.getBoundingClientRect();
    return viewport.start + ((clientX - box.left) / box.width) * viewport.span;
  };

  element.addEventListener("pointerdown", (event) => {
    if (!(event.target instanceof HTMLCanvasElement) || event.button !== 0) return;
    event.target.setPointerCapture(event.pointerId);
    if (!pointers.size) traveled = 0;
    pointers.set(event.pointerId, event.clientX);
  });

  element.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = [...pointers.values()];
    const moved = event.clientX - pointers.get(event.pointerId);
    traveled += Math.abs(moved);
    pointers.set(event.pointerId, event.clientX);
    const after = [...pointers.values()];
    if (after.length === 1 && traveled > CLICK_PIXELS) {
      viewport.pan((-moved / event.target.clientWidth) * viewport.span);
    } else if (after.length === 2) {
      const [old, now] = [before, after].map(([a, b]) => Math.max(20, Math.abs(a - b)));
      viewport.zoom(now / old, getTime(event.target, (after[0] + after[1]) / 2));
    }
  });

  const release = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    const isClick = event.type === "pointerup" && !pointers.size && traveled <= CLICK_PIXELS;
    if (isClick) onSeek(Math.min(Math.max(getTime(event.target, event.clientX), 0), viewport.duration));
  };
  element.addEventListener("pointerup", release);
  element.addEventListener("pointercancel", release);

  element.addEventListener(
    "wheel",
    (event) => {
      if (!(event.target instanceof HTMLCanvasElement)) return;
      const isLane = event.target.closest(".lane") !== null;
      const isSideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
      if (isLane && !event.ctrlKey && !event.metaKey && !isSideways) return; // The page scrolls.
      event.preventDefault();
      if (isSideways) {
        viewport.pan(((event.deltaX || event.deltaY) / event.target.clientWidth) * viewport.span);
      } else {
        const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 * event.deltaY : event.deltaY;
        const speed = event.ctrlKey ? 0.01 : 0.002; // Touchpads report pinches as small turns with Ctrl.
        viewport.zoom(Math.exp(-Math.min(Math.max(pixels * speed, -0.7), 0.7)), getTime(event.target, event.clientX));
      }
    },
    { passive: false },
  );
}
