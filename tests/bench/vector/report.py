"""What `make bench-vector` has measured, as tables between the markers of a page."""
import os

BEGIN, END = "<!-- figures: begin, written by `make bench-vector` -->", "<!-- figures: end -->"


def number(value):
    if value is None:
        return "-"
    return "%.4g" % value if abs(value) < 1000 else "{:,.0f}".format(value)


def table(rows):
    lines = ["| test | recall | ours | beside | its figure | ratio |", "|---|---|---|---|---|---|"]
    for row in rows:
        recall = "%.4f" % row["recall"] if row["recall"] is not None else "-"
        ratio = "%.2f" % row["ratio"] if row["ratio"] is not None else "-"
        lines.append("| %s | %s | %s | %s | %s | %s |" % (
            row["test"], recall, number(row["ours"]), row["peer_name"] or "-", number(row["peer"]), ratio))
    return "\n".join(lines)


def text(result):
    machine = result["machine"]
    parts = ["Measured on %s with one thread, which reads %.1f GB/s." % (machine["name"], machine["read_gbs"])]
    for name in dict.fromkeys(row["set"] for row in result["rows"]):
        parts.append("**%s**" % name)
        parts.append(table([row for row in result["rows"] if row["set"] == name]))
    return "\n\n".join(parts)


def write(path, result):
    page, figures = "", text(result)
    if os.path.exists(path):
        with open(path) as f:
            page = f.read()
    if BEGIN not in page:
        page += BEGIN + "\n" + END + "\n"
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    with open(path, "w") as f:
        f.write(before + BEGIN + "\n\n" + figures + "\n\n" + END + after)
