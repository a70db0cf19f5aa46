"""How the page looks, in light and dark: one style sheet, no fonts or pictures from elsewhere."""

from __future__ import annotations

LIGHT = {
    "ink": "#1c2430",
    "quiet": "#56606e",
    "line": "#dde2e8",
    "paper": "#ffffff",
    "ground": "#f3f5f8",
    "hover": "#f7f9fb",
    "link": "#0058a3",
    "bar": "#33475b",
    "caution": "#fff7e6",
    "caution-line": "#b7791f",
    "dot": "#9aa5b1",
    "edge": "#8b96a3",
    "gain": "#0072b2",
    "gain-ink": "#004a80",
    "gain-paper": "#e3f0fa",
    "loss": "#d55e00",
    "loss-ink": "#8a3400",
    "loss-paper": "#fdebdf",
    "same-ink": "#3d4753",
    "same-paper": "#eef1f4",
    "c2": "#009e73",
    "c3": "#cc79a7",
    "c4": "#e69f00",
    "c5": "#56b4e9",
}
"""Role -> colour on light paper. Figures are drawn in these, and each stands for its role."""

DARK = {
    "ink": "#e6e9ee",
    "quiet": "#a4aebb",
    "line": "#333c48",
    "paper": "#161b22",
    "ground": "#0d1117",
    "hover": "#1d242d",
    "link": "#7cc0ff",
    "bar": "#8aa0b6",
    "caution": "#2c2410",
    "caution-line": "#d9a441",
    "dot": "#6b7684",
    "edge": "#7d8896",
    "gain": "#58b2ee",
    "gain-ink": "#9fd4ff",
    "gain-paper": "#0f2a40",
    "loss": "#ff8f45",
    "loss-ink": "#ffb98a",
    "loss-paper": "#3b1f0c",
    "same-ink": "#c6cdd6",
    "same-paper": "#252c35",
    "c2": "#3ecfa0",
    "c3": "#e39cc4",
    "c4": "#f0b840",
    "c5": "#8fd0f5",
}
"""The same roles on dark paper."""


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{role}: {colour};" for role, colour in colours.items())


SHADES = 5
"""Steps of a heat map from no change to the largest, on either side."""


def _shades() -> str:
    """A class for each shade: the colour of gain or loss laid thinly on the paper."""
    lines = []
    for sign, role in (("g", "gain"), ("l", "loss")):
        for step in range(1, SHADES + 1):
            share = f"calc({step} * var(--shade))"
            mixed = f"color-mix(in srgb, var(--{role}) {share}, var(--paper))"
            lines.append(f".{sign}{step} {{ background: {mixed}; }}")
    return "\n".join(lines)


CSS = (
    f"""
:root {{ color-scheme: light dark; --shade: 12%; {_variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ --shade: 9%; {_variables(DARK)} }} }}
"""
    + """
* { box-sizing: border-box; }
[hidden] { display: none !important; }
html { scroll-padding-top: 90px; -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1240px; margin: 24px auto; padding: 26px 30px 36px; background: var(--paper);
  border: 1px solid var(--line); border-radius: 8px; overflow-wrap: break-word; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 2px; }
h2 { font-size: 18px; margin: 32px 0 8px; }
p { margin: 6px 0; max-width: 78ch; }
ul { margin: 6px 0; padding-left: 22px; }
li { margin: 3px 0; }
a { color: var(--link); }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.quiet, figcaption { color: var(--quiet); font-size: 14px; }
.answer { font-size: 17px; line-height: 1.7; max-width: none; margin: 16px 0;
  padding: 14px 18px; background: var(--ground); border-left: 4px solid var(--bar); }
.answer p { max-width: none; margin: 0; } .answer ul { font-size: 15px; line-height: 1.5; }
.warning { margin: 12px 0; padding: 10px 18px; background: var(--caution);
  border-left: 4px solid var(--caution-line); }
.note { margin: 12px 0; padding: 10px 18px; border: 1px solid var(--line); border-radius: 6px; }
:is(.warning, .note) details { margin-top: 6px; }
:is(.warning, .note) summary { font-size: 14px; font-weight: 400; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: 13.5px; }
th { text-align: left; font-weight: 600; color: var(--quiet); vertical-align: bottom;
  border-bottom: 2px solid var(--line); padding: 5px 8px; }
td { border-bottom: 1px solid var(--line); padding: 4px 8px; }
:is(#cells, #beside, #published, #forms) :is(td, th) { padding-left: 4px; padding-right: 4px; }
:is(#cells, .fixed) :is(th, td):first-child { position: sticky; left: 0; z-index: 1;
  background: var(--paper); }
#cells code { font-size: 12px; }
:is(#cells, #beside, #forms, #costs) td { white-space: nowrap; }
small { display: block; font-size: 12px; color: var(--quiet); white-space: nowrap; }
td.wrap { min-width: 30ch; } td.wrap small { white-space: normal; }
tbody tr:hover { background: var(--hover); }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 10px 0 22px; }
img { max-width: 100%; height: auto; display: block; background: #ffffff; border-radius: 4px; }
.drawn svg { display: block; height: auto; max-width: 100%; }
.drawn.wide { overflow-x: auto; } .drawn.wide svg { max-width: none; }
.drawn svg text { font-family: system-ui, "Segoe UI", Roboto, Arial, sans-serif !important; }
.drawn svg a text { text-decoration: underline; }
.multiples { display: flex; flex-wrap: wrap; gap: 6px 22px; }
.multiples figure { margin: 6px 0; max-width: 100%; }
.verdict { display: inline-block; white-space: nowrap; padding: 0 8px; border-radius: 10px;
  border: 1px solid; font-size: 13px; line-height: 20px; font-weight: 600; }
.verdict.helped { color: var(--gain-ink); background: var(--gain-paper);
  border-color: var(--gain); }
.verdict.hurt { color: var(--loss-ink); background: var(--loss-paper);
  border-color: var(--loss); }
.verdict.unchanged { color: var(--same-ink); background: var(--same-paper);
  border-color: var(--edge); }
.verdict.cannot-tell { color: var(--same-ink); background: var(--paper);
  border: 1px dashed var(--edge); }
.bar { display: block; }
.bar .zero { stroke: var(--dot); stroke-width: 1; stroke-dasharray: 2 2; }
.bar .span { stroke: var(--quiet); stroke-width: 2; }
.bar circle { fill: var(--quiet); }
.bar.helped .span { stroke: var(--gain); } .bar.helped circle { fill: var(--gain); }
.bar.hurt .span { stroke: var(--loss); } .bar.hurt circle { fill: var(--loss); }
details { margin-top: 28px; } td details { margin-top: 4px; } td details.runs { margin: 0; }
td summary { font-size: 13px; font-weight: 400; }
:is([data-cell], .runs) code, .runs summary { white-space: nowrap; }
#missing td { vertical-align: top; } #missing td:last-child { min-width: 46ch; }
summary { cursor: pointer; font-weight: 600; font-size: 16px; }
h3 { font-size: 14px; margin: 12px 0 4px; color: var(--quiet); }
pre { margin: 0; padding: 8px 12px; background: var(--ground); white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, monospace; }
td.group { background: var(--ground); } td.type { padding-left: 22px; }
table.form { margin: 8px 0 4px; }
details.item { margin: 0; padding: 5px 0; border-bottom: 1px solid var(--line); }
details.item summary { font-size: 13.5px; font-weight: 400; }
details.item summary span { color: var(--quiet); }
.heat td { text-align: right; font-variant-numeric: tabular-nums; padding: 2px 5px;
  font-size: 12px; border: 1px solid var(--paper); }
.heat td:first-child { text-align: left; white-space: nowrap; }
.heat thead th { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: 400;
  text-align: left; padding: 5px 2px; border: 0; }
.heat thead th:first-child { writing-mode: horizontal-tb; transform: none; }
"""
    + _shades()
    + """
.controls { position: sticky; top: 0; z-index: 3; display: flex; flex-wrap: wrap; gap: 6px 10px;
  align-items: center; margin: 14px 0 4px; padding: 8px 0; background: var(--paper);
  border-bottom: 1px solid var(--line); font-size: 14px; }
.controls :is(input, select, button) { font: inherit; color: var(--ink); max-width: 100%;
  background: var(--ground); border: 1px solid var(--edge); border-radius: 5px;
  padding: 4px 8px; }
.controls label { display: flex; gap: 5px; align-items: center; color: var(--quiet);
  max-width: 100%; }
.controls output { color: var(--quiet); }
.sort { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  text-align: inherit; letter-spacing: inherit; }
.heat .sort { writing-mode: inherit; }
#cells td.flags { white-space: normal; min-width: 18ch; font-size: 12.5px; }
.flags div { display: inline-block; margin-right: 4px; white-space: nowrap; }
.sort::after { content: "\\a0↕"; opacity: .45; }
[aria-sort=ascending] .sort::after { content: "\\a0↑"; opacity: 1; }
[aria-sort=descending] .sort::after { content: "\\a0↓"; opacity: 1; }
.sort:focus-visible, a:focus-visible, summary:focus-visible { outline: 2px solid var(--link);
  outline-offset: 2px; }
td.pick { width: 1px; } tr.picked { background: var(--same-paper); }
tr.picked td:first-child { background: var(--same-paper) !important; }
@media (max-width: 640px) {
  body { font-size: 16px; }
  main { margin: 0; padding: 16px 14px 28px; border: 0; border-radius: 0; }
  h1 { font-size: 22px; } .answer { padding: 10px 12px; font-size: 16px; }
  .controls { position: static; } .controls input { width: 100%; }
  .controls label { width: calc(50% - 5px); } .controls label:first-child { width: 100%; }
  .controls select { flex: 1; min-width: 0; }
  .warning, .note { padding: 8px 12px; }
}
@media print { body { background: #ffffff; } main { border: 0; margin: 0; padding: 0; }
  .controls { display: none; } }
"""
)
"""Colours of gain and loss are Okabe and Ito's; each verdict also has its word and its sign."""
