"""Draws a record as bars: one for each engine, as long as its median, with a line from the least to the most."""

import csv
import html
import statistics

LEFT, BAR, STEP, TOP, WIDTH = 320, 18, 26, 48, 1000
SPAN = WIDTH - LEFT - 150
COLOURS = {"cvc": "#1f77b4", "limit": "#999999", "other": "#d98c3f"}


def shown(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def draw(record, definition, path, part):
    """All of a record, or the rows of a part of it that has a title of its own."""
    engines = {}
    where = {key: str(value) for key, value in part.get("where", {}).items()}
    with open(record, encoding="utf-8") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            if any(row[key] != value for key, value in where.items()):
                continue
            engines.setdefault(row["engine"], []).append(float(row["wall_s"]) * 1e3)
    order = [spec["name"] for spec in definition["engine"] if spec["name"] in engines]
    limits = set(definition.get("copies", [])) | set(definition.get("bounds", []))
    medians = {name: statistics.median(engines[name]) for name in order}
    order.sort(key=medians.get)
    most = max(medians.values())
    # A rival that takes far longer than all others would make their bars invisible.
    scale = min(most, 4 * sorted(medians.values())[len(medians) * 3 // 4])
    height = TOP + STEP * len(order) + 12
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{html.escape(part.get("title", definition["title"]))}</text>',
        f'<text x="{WIDTH - 12}" y="24" text-anchor="end" fill="#555">wall clock, ms; the line spans all rounds</text>',
    ]
    for at, name in enumerate(order):
        y = TOP + STEP * at
        kind = "limit" if name in limits else "cvc" if name.startswith("cvc") else "other"
        low, high = min(engines[name]), max(engines[name])
        length = min(medians[name] / scale, 1) * SPAN
        out.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{html.escape(name)}</text>')
        out.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[kind]}"/>')
        ends = [LEFT + min(value / scale, 1.02) * SPAN for value in (low, high)]
        out.append(f'<line x1="{ends[0]:.1f}" y1="{y + 9}" x2="{ends[1]:.1f}" y2="{y + 9}" stroke="black" stroke-width="1.2"/>')
        cut = " (bar cut off)" if medians[name] > scale else ""
        # Behind the bar or the line, whichever is longer.
        x = max(LEFT + length, ends[1]) + 6
        out.append(f'<text x="{x:.1f}" y="{y + 14}">{shown(medians[name])}{cut}</text>')
    out.append("</svg>")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(out) + "\n", encoding="utf-8")
    print(f"drawn in docs/benchmarks/{path.name}")
