"""What a page can do besides being read: its tables are sorted, a study's filtered and compared."""

from __future__ import annotations

import json
from typing import Any

from heed.analysis.cells import Cells
from heed.analysis.markup import Markup, join, tag

SCRIPT = r"""
"use strict";
(() => {
  const make = (kind, text, attributes) => {
    const made = document.createElement(kind);
    if (text) made.textContent = text;
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    return made;
  };

  /* sort */
  const valueOf = (row, place) => {
    const cell = row.cells[place];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const text = cell.textContent.trim();
    return text !== "" && isFinite(text) ? Number(text) : text;
  };
  const kindOf = value => value === "" ? 2 : typeof value === "number" ? 0 : 1;
  const compare = (a, b, sign) => {
    const kinds = kindOf(a) - kindOf(b);
    if (kinds) return kinds;  /* numbers, then words, then nothing, in either direction */
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, {numeric: true}));
  };
  const sort = head => {
    const table = head.closest("table"), body = table.tBodies[0];
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const rows = [...body.rows].map((row, i) => [valueOf(row, head.cellIndex), i, row]);
    rows.sort((one, two) => compare(one[0], two[0], sign) || one[1] - two[1]);
    body.append(...rows.map(row => row[2]));
  };
  for (const table of document.querySelectorAll("table")) {
    if (table.tBodies[0].rows.length < 2 || !table.querySelector("td[data-value]")) continue;
    for (const head of table.tHead.rows[0].cells) {
      const button = make("button", "", { type: "button", class: "sort" });
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(head));
      head.replaceChildren(button);
    }
  }

  /* filter */
  const told = document.getElementById("told");
  const bar = document.getElementById("filter");
  if (!told || !bar) return;
  const { names, cells, runs, filters } = JSON.parse(told.textContent);
  const own = [...document.querySelectorAll("tr[data-cell]")];
  const several = [...document.querySelectorAll("tr[data-cells]")];
  const main = [...document.querySelectorAll("#cells tbody tr")];
  const texts = new Map(main.map(row => [row.dataset.cell, row.textContent.toLowerCase()]));
  const figures = [...document.querySelectorAll("figure")]
    .map(figure => [figure, [...figure.querySelectorAll("[data-drawn]")]])
    .filter(([, parts]) => parts.length);
  const notes = document.querySelectorAll("[data-filtered]");
  const chosen = new URLSearchParams(location.hash.slice(1));
  const search = make("input", "", { type: "search", placeholder: "part of a row" });
  const label = make("label", "find ");
  label.append(search);
  bar.append(label);
  const selects = [];
  for (const [name, values] of filters) {
    const select = make("select", "", { name });
    select.append(make("option", "all", { value: "" }));
    for (const value of new Set(values)) select.append(make("option", value, { value }));
    const named = make("label", name + " ");
    named.append(select);
    bar.append(named);
    selects.push([name, values, select]);
  }
  const clear = make("button", "show all", { type: "button" });
  const count = make("output", "", { id: "count", "aria-live": "polite" });
  bar.append(clear, count);
  bar.hidden = false;
  const filter = () => {
    const words = search.value.trim().toLowerCase();
    const kept = new Set();
    cells.forEach((_, i) => {
      const fits = selects.every(([, values, select]) =>
        select.value === "" || select.value === values[i]);
      if (fits && texts.get(String(i)).includes(words)) kept.add(String(i));
    });
    for (const row of own) row.hidden = !kept.has(row.dataset.cell);
    for (const row of several) {  /* of several cells: shown as long as one of them is */
      row.hidden = !row.dataset.cells.split(" ").some(i => kept.has(i));
    }
    const drawn = new Set([...kept].map(i => runs[i]));
    for (const [figure, parts] of figures) {  /* no line of hidden points stands for others */
      for (const part of parts) {
        part.toggleAttribute("hidden", !part.dataset.drawn.split(" ").every(run => drawn.has(run)));
      }
      figure.hidden = parts.every(part => part.hasAttribute("hidden"));
    }
    for (const note of notes) note.hidden = kept.size === cells.length;
    count.textContent = `${kept.size} of ${cells.length} cells shown`;
    const state = new URLSearchParams();
    if (words) state.set("find", search.value);
    for (const [name, , select] of selects) if (select.value) state.set(name, select.value);
    const hash = state.toString();
    if (hash !== location.hash.slice(1)) {
      history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search);
    }
  };
  search.value = chosen.get("find") || "";
  for (const [name, , select] of selects) {
    const asked = chosen.get(name) || "";
    select.value = [...select.options].some(option => option.value === asked) ? asked : "";
    select.addEventListener("change", filter);
  }
  search.addEventListener("input", filter);
  clear.addEventListener("click", () => {
    search.value = "";
    for (const [, , select] of selects) select.value = "";
    filter();
  });
  filter();

  /* two cells against each other */
  const pair = document.getElementById("pair");
  let picked = [];
  const say = () => {
    for (const row of main) {
      const on = picked.includes(row.dataset.cell);
      row.classList.toggle("picked", on);
      row.querySelector("input").checked = on;
    }
    pair.className = "note";
    if (picked.length < 2) {
      pair.textContent = "Tick two cells to see in what else they differ.";
      return;
    }
    const [one, two] = picked.map(i => cells[Number(i)]);
    const differ = names.filter((_, place) => one[place] !== two[place]);
    const each = names.flatMap((name, place) =>
      one[place] === two[place] ? [] : [`${name}: ${one[place]} / ${two[place]}`]);
    if (differ.length < 2) {
      pair.textContent = differ.length
        ? `These two cells differ in ${differ[0]} alone (${each[0]}).`
        : "These two cells differ in nothing that is known here.";
      return;
    }
    pair.className = "warning";
    pair.textContent = `⚑ Confounded: these two cells differ in ${differ.join(" and ")} `
      + `(${each.join("; ")}). A difference between them cannot be put down to one of these.`;
  };
  for (const row of main) {
    const words = "compare run " + row.querySelector("code").textContent;
    const box = make("input", "", { type: "checkbox", "aria-label": words });
    box.addEventListener("change", () => {
      const i = row.dataset.cell;
      picked = box.checked ? [...picked.slice(-1), i] : picked.filter(other => other !== i);
      say();
    });
    row.cells[0].prepend(box, " ");
  }
  if (main.length > 1) { pair.hidden = false; say(); }
})();
"""
"""Plain JavaScript. Without it the page is whole, in the order of the study."""

FILTERED = (
    "Filtered: marks of hidden cells are hidden here, and each line or curve that is not of shown "
    "cells alone. The scale, and the files PNG and SVG, are of all cells."
)
"""What the filter does to a figure."""

OF_ALL = (
    "Filtered: rows and marks of other cells are hidden. Sentences, p (Holm), chosen rates, means "
    "over cells, and the sections on teachers and before tuning are still of the whole study."
)
"""What the filter does not reach."""


def filter_bar(cells: Cells) -> Markup:
    """Where the script puts what sorts and filters, and what it knows of the cells.

    Args:
        cells: Of the study; nothing is made where there are none.
    """
    if not cells.rows:
        return join()
    bar = tag("div", id="filter", class_="controls", hidden="")
    data = tag("script", _safe(_told(cells)), id="told", type="application/json")
    return join(bar, while_filtered(OF_ALL), data)


def while_filtered(text: str) -> Markup:
    """A line that is seen as long as the filter hides a cell."""
    return tag("p", text, class_="quiet", data_filtered="", hidden="")


def pair_box() -> Markup:
    """Where the script says in what two cells differ."""
    return tag("div", id="pair", class_="note", hidden="", aria_live="polite")


def script() -> Markup:
    """The script itself, for the end of the page."""
    return tag("script", Markup(SCRIPT))


def _told(cells: Cells) -> dict[str, Any]:
    """What two cells can differ in, each cell's values there, and what cells are filtered by."""
    filters = {name: cells.facts[name] for name in cells.varied}
    filters["verdict"] = [row.decisive.verdict for row in cells.rows]
    values = [[of[i] for of in cells.facts.values()] for i in range(len(cells.rows))]
    runs = [row.run for row in cells.rows]
    told = {"names": list(cells.facts), "cells": values, "runs": runs}
    return told | {"filters": list(filters.items())}


def _safe(data: Any) -> Markup:
    """JSON that cannot end the element it stands in, whatever texts it holds."""
    text = json.dumps(data, ensure_ascii=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)
