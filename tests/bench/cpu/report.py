"""What `make bench-cpu` has measured, as tables between the markers of a page and as a picture beside it."""
import html
import os

BEGIN, END = "<!-- figures: begin, written by `make bench-cpu` -->", "<!-- figures: end -->"
DRAWN = (("prefill512", "reading 512 tokens"), ("decode0", "generating, 1 sequence"),
         ("batch8", "generating, 8 sequences"))


def unique(rows, key):
    return list(dict.fromkeys(row[key] for row in rows))


def cell(row):
    shares = (row["limit_share"], row["peer_limit_share"])
    if None in shares:
        return "%.2f" % row["ratio"]
    return "%.2f (%.0f, %.0f %%)" % (row["ratio"], *(share * 100 for share in shares))


# ---- the tables ------------------------------------------------------------------------------------------------------

def describe(machine):
    sentence = ("Measured on %(cpu)s with %(threads)d threads, which read %(least_gbs).1f to %(most_gbs).1f GB/s, do %(int8_gmacs).0f "
                "thousand million products of bytes a second (%(int8)s) and %(f32_gmacs).0f of floats (%(f32)s)")
    lines = [sentence % machine + (", %(bf16_gmacs).0f of BF16." % machine if machine["bf16_gmacs"] else ".")]
    lines.append("libaiinfra %(version)s uses %(isa)s. The peer is llama.cpp of %(peer)s, which says of itself: "
                 "`%(peer_system)s`." % machine)
    lines.append("Medians of at most %(rounds)d rounds; the load average was %(load_average).1f before." % machine)
    return "\n".join(lines)


def table(rows):
    """Of one model: a row for each type, a column for each test."""
    tests, cells = unique(rows, "test"), {(row["type"], row["test"]): row for row in rows}
    lines = ["| type | " + " | ".join(tests) + " |", "|---" * (len(tests) + 1) + "|"]
    for kind in unique(rows, "type"):
        found = [cells.get((kind, test)) for test in tests]
        lines.append("| %s | " % kind + " | ".join(cell(row) if row else "" for row in found) + " |")
    return "\n".join(lines)


def page_text(data, picture):
    parts = [describe(data["machine"])]
    if picture:
        parts.append("![Speed of both as a share of the physical limit](%s)" % picture)
    for model in unique(data["rows"], "model"):
        parts.append("**%s**" % model)
        parts.append(table([row for row in data["rows"] if row["model"] == model]))
    return "\n\n".join(parts)


# ---- the picture -----------------------------------------------------------------------------------------------------

STYLE = """text{font:12px sans-serif;fill:#24292f}.title{font-weight:bold}.small{font-size:11px}.ours{fill:#1a7f37}
.peer{fill:#8c959f}.line{stroke:#8c959f;stroke-width:1;fill:none}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ours{fill:#3fb950}.peer{fill:#768390}}"""
LEFT, WIDTH, GAP, BAR, TOP = 64, 200, 112, 9, 64


def text(x, y, words, kind="small", anchor="start"):
    return '<text x="%d" y="%d" class="%s" text-anchor="%s">%s</text>' % (x, y, kind, anchor, html.escape(words))


def bar(x, y, share, kind):
    return '<rect x="%d" y="%d" width="%.1f" height="%d" class="%s"/>' % (x, y, max(1, min(share, 1) * WIDTH), BAR, kind)


def panel(rows, x, y, title):
    """Two bars for each type; the frame's right edge is the limit."""
    lines = [text(x, y - 8, title, "title")]
    for i, row in enumerate(rows):
        at = y + i * (2 * BAR + 8)
        lines += [text(x - 6, at + BAR + 4, row["type"], anchor="end"),
                  bar(x, at, row["limit_share"], "ours"), bar(x, at + BAR, row["peer_limit_share"], "peer"),
                  text(x + WIDTH + 6, at + BAR + 4, "x %.2f" % row["ratio"])]
    height = len(rows) * (2 * BAR + 8)
    return lines + ['<path class="line" d="M%d %dv%dM%d %dv%d"/>' % (x, y - 4, height, x + WIDTH, y - 4, height)], height


def draw(rows):
    """An SVG for light and dark pages; None when no limit is known."""
    rows = [row for row in rows if row["limit_share"] is not None]
    tests = [pair for pair in DRAWN if pair[0] in unique(rows, "test")]
    if not tests:
        return None
    lines, y = [], TOP
    for model in unique(rows, "model"):
        lines.append(text(LEFT, y - 28, model, "title"))
        highest = 0
        for i, (test, title) in enumerate(tests):
            chosen = [row for row in rows if row["model"] == model and row["test"] == test]
            drawn, height = panel(chosen, LEFT + i * (WIDTH + GAP), y, title)
            lines += drawn
            highest = max(highest, height)
        y += highest + 72
    width = LEFT + len(tests) * (WIDTH + GAP)
    legend = [bar(LEFT, 8, BAR / WIDTH, "ours"), text(LEFT + 14, 17, "libaiinfra"),
              bar(LEFT + 90, 8, BAR / WIDTH, "peer"),
              text(LEFT + 104, 17, "llama.cpp; the line on the right is what the machine allows")]
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">' % ((width, y - 40) * 2)
    return "\n".join([head, "<style>%s</style>" % STYLE, *legend, *lines, "</svg>", ""])


# ---- both ------------------------------------------------------------------------------------------------------------

def write(data, path):
    picture = draw(data["rows"])
    name = os.path.splitext(os.path.basename(path))[0] + ".svg"
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    if picture:
        with open(os.path.join(os.path.dirname(path), name), "w", encoding="utf-8") as file:
            file.write(picture)
    before, after = "# Performance\n\n", "\n"
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before, _, rest = file.read().partition(BEGIN)
        after = rest.partition(END)[2]
    with open(path, "w", encoding="utf-8") as file:
        file.write("%s%s\n\n%s\n\n%s%s" % (before, BEGIN, page_text(data, name if picture else None), END, after))
