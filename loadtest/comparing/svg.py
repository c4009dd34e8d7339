"""Horizontal bars as SVG, readable on light and dark: it brings its own background and follows the reader's scheme."""
from xml.sax.saxutils import escape

WIDTH, MARGIN, LABEL, VALUE = 760, 16, 150, 120
BAR, GAP, HEAD, PANEL_GAP = 16, 5, 26, 14
STYLE = """
svg { background: #ffffff; }
.page { fill: #ffffff; } text { fill: #1f2328; font: 13px system-ui, sans-serif; }
.title { font-size: 16px; font-weight: 600; } .panel { font-weight: 600; } .faint { fill: #59636e; }
.bar { fill: #9aa4af; } .ours { fill: #0f7b6c; } .value { font-variant-numeric: tabular-nums; }
.bold { font-weight: 600; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; }
  .page { fill: #0d1117; } text { fill: #e6edf3; } .faint { fill: #9198a1; }
  .bar { fill: #57606a; } .ours { fill: #2fbfa7; }
}
"""


def text(x, y, content, classes="", anchor="start"):
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{classes}" text-anchor="{anchor}">{escape(content)}</text>'


def bars(title, subtitle, panels):
    """`panels`: [(heading, [(label, value, value as text, is ours)])], the bars of a panel drawn on a scale of its
    own."""
    parts, y = [], MARGIN + 16
    parts.append(text(MARGIN, y, title, "title"))
    y += 20
    parts.append(text(MARGIN, y, subtitle, "faint"))
    y += 12
    room = WIDTH - 2 * MARGIN - LABEL - VALUE
    for heading, rows in panels:
        y += PANEL_GAP
        parts.append(text(MARGIN, y + 12, heading, "panel"))
        y += HEAD
        most = max((value for _, value, _, _ in rows), default=0) or 1
        for label, value, shown, ours in rows:
            middle = y + BAR - 4
            width = max(1.0, room * max(value, 0) / most)
            kind = "ours" if ours else "bar"
            parts.append(text(MARGIN + LABEL - 8, middle, label, "bold" if ours else "", "end"))
            parts.append(f'<rect x="{MARGIN + LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" '
                         f'class="{kind}"/>')
            parts.append(text(MARGIN + LABEL + width + 6, middle, shown, "value bold" if ours else "value"))
            y += BAR + GAP
    height = y + MARGIN
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">\n<style>{STYLE}</style>\n'
            f'<rect class="page" width="{WIDTH}" height="{height}"/>\n' + "\n".join(parts) + "\n</svg>\n")
