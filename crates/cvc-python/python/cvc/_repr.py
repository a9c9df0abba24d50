"""How files and arrays show themselves, as text and in notebooks."""

from __future__ import annotations

from html import escape
from typing import Any


def size(count: int) -> str:
    """A number of bytes for people."""
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{count} B" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def array_text(array: Any) -> str:
    shape = " x ".join(str(length) for length in array.shape)
    return f"<cvc.Array {array.name!r}: {shape} {array.stored_dtype}, {array.codec}, {size(array.stored_len)}{ratio(array)}>"


def ratio(array: Any) -> str:
    try:
        nbytes = array.nbytes
    except (TypeError, ValueError):  # strings
        return ""
    return f" ({array.stored_len / nbytes:.2f} of {size(nbytes)})" if nbytes else ""


def loss_text(array: Any) -> str:
    loss = array.loss
    if loss is None:
        return "not measured"
    if loss["max_abs_error"] == 0 and loss["mse"] == 0:
        return "exact"
    return f"at most {loss['max_abs_error']:.3g}; cosine at least {loss['min_cosine']:.6f}"


def file_text(file: Any) -> str:
    if file.closed:
        return f"<cvc.File {file.name!r}, closed>"
    lines = [f"<cvc.File {file.name!r}: layout {file.layout}, {size(file.file_len)}, {len(file.sections)} sections>"]
    lines += [f"  {array_text(array)[1:-1]}" for array in file.arrays.values()]
    return "\n".join(lines)


_COLORS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#9c755f")
_SHOWN = 200


def array_html(array: Any) -> str:
    return _table([array])


def file_html(file: Any) -> str:
    if file.closed:
        return f"<code>{escape(file_text(file))}</code>"
    head = f"<b>{escape(file.name)}</b> &nbsp; layout {file.layout}, {size(file.file_len)}"
    arrays = list(file.arrays.values())
    return f"<div>{head}{_table(arrays)}{_sections(file, len(arrays[0]) if arrays else 0)}</div>"


def _table(arrays: list[Any]) -> str:
    names = ("array", "shape", "dtype", "codec", "stored", "share of its values", "largest error")
    head = "".join(f"<th style='text-align:left;padding-right:1em'>{name}</th>" for name in names)
    rows = []
    for array in arrays:
        shape = " × ".join(f"{length:,}" for length in array.shape)
        cells = (
            escape(array.name),
            shape,
            array.stored_dtype,
            escape(array.codec),
            size(array.stored_len),
            _bar(array),
            escape(loss_text(array)),
        )
        rows.append("<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _bar(array: Any) -> str:
    try:
        share = array.stored_len / array.nbytes
    except (TypeError, ValueError, ZeroDivisionError):
        return ""
    width = min(100.0, 100 * share)
    return (
        "<div style='display:inline-block;width:6em;background:#ddd'>"
        f"<div style='width:{width:.1f}%;background:{_COLORS[0]}'>&nbsp;</div></div> {share:.2f} of {size(array.nbytes)}"
    )


def _sections(file: Any, rows: int) -> str:
    sections = file.sections
    if not sections or not rows:
        return ""
    bars = []
    for number, section in enumerate(sections[:_SHOWN]):
        left, width = 100 * section.start / rows, 100 * (section.stop - section.start) / rows
        title = escape(f"rows {section.start:,} to {section.stop:,}: {section.metadata}", quote=True)
        color = _COLORS[number % len(_COLORS)]
        bars.append(
            f"<div title='{title}' style='position:absolute;left:{left:.3f}%;width:{width:.3f}%;height:100%;"
            f"background:{color}'></div>"
        )
    more = f", the first {_SHOWN} shown" if len(sections) > _SHOWN else ""
    bar = f"<div style='position:relative;height:1.2em;background:#eee'>{''.join(bars)}</div>"
    return f"<div style='margin-top:.5em'>{len(sections):,} sections of {rows:,} rows{more}{bar}</div>"
