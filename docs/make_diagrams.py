"""Draw the diagrams of docs/concepts.md: `python -m docs.make_diagrams` writes docs/diagrams/."""

from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from kerastag.files import write_text

__all__ = ["DIAGRAMS", "FOLDER"]

FOLDER = Path(__file__).resolve().parent / "diagrams"
WIDTH = 760
LEFT, RIGHT = 170, 730
INK, MUTED, BLUE, ORANGE, GREEN = "#1f2933", "#7b8794", "#2b6cb0", "#c05621", "#2f855a"
SEGMENTS = 10


class Drawing:
    """An SVG drawing on a light card, which is legible on light and dark pages."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.elements: list[str] = []

    def add_box(self, x: float, y: float, width: float, height: float, color: str, opacity: float = 1.0) -> None:
        """Add a rectangle."""
        size = f'width="{width:.1f}" height="{height:.1f}"'
        self.elements.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="3" fill="{color}" opacity="{opacity}"/>')

    def add_line(self, points: Sequence[tuple[float, float]], color: str = MUTED, dashes: str = "") -> None:
        """Add a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = f'fill="none" stroke="{color}" stroke-width="2"' + (f' stroke-dasharray="{dashes}"' if dashes else "")
        self.elements.append(f'<polyline points="{path}" {style}/>')

    def add_arrow(self, x: float, y: float, end_x: float, end_y: float) -> None:
        """Add an arrow."""
        line = f'x1="{x:.1f}" y1="{y:.1f}" x2="{end_x:.1f}" y2="{end_y:.1f}"'
        self.elements.append(f'<line {line} stroke="{MUTED}" stroke-width="2" marker-end="url(#arrow)"/>')

    def add_text(self, x: float, y: float, text: str, anchor: str = "start", color: str = INK) -> None:
        """Add a line of text."""
        self.elements.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'
        )

    def add_labeled_box(self, x: float, y: float, width: float, text: str, color: str) -> None:
        """Add a box of 34 pixels with text in it."""
        self.add_box(x, y, width, 34, color)
        self.add_text(x + width / 2, y + 22, text, "middle", "white")

    def __str__(self) -> str:
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" font-family="sans-serif"'
        arrow = '<marker id="arrow" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        arrow += f'<path d="M0,0 L8,4 L0,8 z" fill="{MUTED}"/></marker>'
        card = f'<rect width="{WIDTH}" height="{self.height}" rx="10" fill="#f7f9fb"/>'
        return "\n".join([f'{head} font-size="15">', f"<defs>{arrow}</defs>", card, *self.elements, "</svg>", ""])


def get_x(segment: float) -> float:
    """Return the position of a time, in segments from the start of the clip."""
    return LEFT + (RIGHT - LEFT) * segment / SEGMENTS


def draw_events(drawing: Drawing, y: float) -> None:
    """Draw the sounds of the clip that all diagrams share: a dog barks twice, and it rains."""
    for start, end, color in ((2.1, 3.2, ORANGE), (7.4, 8.3, ORANGE)):
        drawing.add_box(get_x(start), y, get_x(end) - get_x(start), 18, color)
    drawing.add_box(get_x(4.0), y + 26, get_x(10) - get_x(4.0), 18, BLUE)


def draw_weak_labels() -> Drawing:
    """Draw strong labels above a weak one."""
    drawing = Drawing(236)
    drawing.add_text(20, 40, "segments")
    for segment in range(SEGMENTS):
        drawing.add_box(get_x(segment) + 2, 22, get_x(1) - LEFT - 4, 26, MUTED, 0.35)
        drawing.add_text(get_x(segment + 0.5), 40, str(segment + 1), "middle")
    drawing.add_text(20, 92, "strong labels")
    draw_events(drawing, 72)
    drawing.add_text(get_x(3.3), 86, "dog, 2.1 to 3.2 s", color=ORANGE)
    drawing.add_text(get_x(3.9), 112, "rain, 4.0 to 10.0 s", "end", BLUE)
    drawing.add_text(20, 172, "weak label")
    drawing.add_labeled_box(LEFT, 150, RIGHT - LEFT, "dog, rain", GREEN)
    drawing.add_text(LEFT, 214, "somewhere in these ten seconds, once or often", color=MUTED)
    return drawing


def draw_attention_pooling() -> Drawing:
    """Draw values, weights and their weighted sum."""
    values = (0.10, 0.25, 0.85, 0.40, 0.15, 0.10, 0.20, 0.45, 0.75, 0.15)
    scores = (0.05, 0.15, 0.90, 0.30, 0.05, 0.05, 0.10, 0.35, 0.80, 0.05)
    weights = [score / sum(scores) for score in scores]
    drawing = Drawing(330)
    for top, label, heights, color in ((24, "values u", values, BLUE), (128, "weights p", weights, ORANGE)):
        drawing.add_text(20, top + 48, label)
        drawing.add_line([(LEFT, top + 80), (RIGHT, top + 80)])
        for segment, value in enumerate(heights):
            height = 78 * value / max(heights)
            drawing.add_box(get_x(segment) + 8, top + 80 - height, get_x(1) - LEFT - 16, height, color)
    drawing.add_text(LEFT, 230, "the weights sum to one over the clip", color=MUTED)
    for segment in range(SEGMENTS):
        drawing.add_line([(get_x(segment + 0.5), 240), (get_x(5), 272)], MUTED)
    total = sum(weight * value for weight, value in zip(weights, values, strict=True))
    mean = sum(values) / SEGMENTS
    drawing.add_labeled_box(get_x(5) - 130, 272, 260, f"sum of p u = {total:.2f}", GREEN)
    drawing.add_text(get_x(5) + 146, 294, f"average: {mean:.2f}", color=MUTED)
    return drawing


def draw_gl_at() -> Drawing:
    """Draw the two streams of GL-AT."""
    drawing = Drawing(360)
    drawing.add_text(20, 40, "clip")
    drawing.add_box(LEFT, 10, RIGHT - LEFT, 50, MUTED, 0.25)
    draw_events(drawing, 13)
    drawing.add_arrow(get_x(5), 63, get_x(5), 82)
    drawing.add_text(20, 106, "global stream")
    drawing.add_labeled_box(LEFT, 84, RIGHT - LEFT, "backbone on the whole clip", BLUE)
    drawing.add_text(20, 166, "most probable")
    drawing.add_text(20, 184, "frame of a class")
    dog = (2, 6, 30, 12, 4, 3, 5, 14, 26, 5)
    rain = (3, 2, 4, 6, 16, 20, 24, 19, 18, 21)
    for heights, color in ((dog, ORANGE), (rain, BLUE)):
        drawing.add_line([(get_x(i + 0.5), 196 - 1.6 * height) for i, height in enumerate(heights)], color)
    drawing.add_text(20, 232, "sub-clips")
    for center, color in ((2.5, ORANGE), (6.5, BLUE)):
        drawing.add_line([(get_x(center), 150), (get_x(center), 212)], color, "4 4")
        drawing.add_box(get_x(center - 1.5), 214, get_x(3) - LEFT, 26, color, 0.75)
        drawing.add_text(get_x(center), 232, "3 s", "middle", "white")
        drawing.add_arrow(get_x(center), 244, get_x(center), 264)
    drawing.add_text(20, 288, "local stream")
    drawing.add_labeled_box(LEFT, 266, RIGHT - LEFT, "backbone on each sub-clip", ORANGE)
    drawing.add_arrow(get_x(5), 304, get_x(5), 316)
    drawing.add_labeled_box(LEFT, 318, RIGHT - LEFT, "prediction: both streams combined", GREEN)
    return drawing


def draw_thresholds() -> Drawing:
    """Draw a probability over time and the event that begins and ends at two thresholds."""
    drawing = Drawing(250)
    probabilities = (0.03, 0.05, 0.12, 0.30, 0.55, 0.78, 0.70, 0.42, 0.60, 0.66, 0.35, 0.20, 0.09, 0.05, 0.28, 0.10)
    begin, end = 0.5, 0.25

    def get_y(probability: float) -> float:
        return 180 - 160 * probability

    for value, text in ((begin, "event begins"), (end, "event ends")):
        drawing.add_line([(LEFT, get_y(value)), (RIGHT, get_y(value))], MUTED, "6 4")
        drawing.add_text(20, get_y(value) + 5, text)
    step = SEGMENTS / len(probabilities)
    points = [(get_x(step * (i + 0.5)), get_y(p)) for i, p in enumerate(probabilities)]
    drawing.add_line(points, BLUE)
    first = next(i for i, p in enumerate(probabilities) if p >= begin)
    last = next(i for i, p in enumerate(probabilities) if i > first and p < end)
    drawing.add_text(20, 218, "event")
    drawing.add_box(points[first][0], 202, points[last][0] - points[first][0], 24, GREEN)
    return drawing


def draw_packages() -> Drawing:
    """Draw the layers of packages, as in the contracts of setup.cfg."""
    drawing = Drawing(390)
    layers = (
        (("cli", INK),),
        (("review", GREEN),),
        (("serving", GREEN), ("archive", GREEN)),
        (("recipes", ORANGE), ("custom", ORANGE)),
        (("export", BLUE), ("tagger", BLUE), ("training", ORANGE)),
        (("edge", BLUE), ("importers", ORANGE)),
        (("models", ORANGE), ("layers", ORANGE)),
        (("data", ORANGE), ("metrics", BLUE)),
        (("audio, dsp, events, labels, card, files, fetch", BLUE),),
    )
    for row, boxes in enumerate(layers):
        width = (RIGHT - 20 - 8 * (len(boxes) - 1)) / len(boxes)
        for column, (name, color) in enumerate(boxes):
            drawing.add_labeled_box(20 + column * (width + 8), 12 + 38 * row, width, name, color)
    drawing.add_text(
        20, 374, "green: serves and reviews; orange: trains; blue: runs on devices and servers", color=MUTED
    )
    return drawing


DIAGRAMS: dict[str, Callable[[], Drawing]] = {
    "attention_pooling": draw_attention_pooling,
    "events": draw_thresholds,
    "gl_at": draw_gl_at,
    "packages": draw_packages,
    "weak_labels": draw_weak_labels,
}
"""Functions that draw the diagrams, by the name of the file."""

if __name__ == "__main__":
    for name, draw in DIAGRAMS.items():
        print(write_text(FOLDER / f"{name}.svg", str(draw())))
