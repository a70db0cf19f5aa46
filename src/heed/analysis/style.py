"""How the page looks: one style sheet, without fonts or pictures from elsewhere."""

CSS = """
:root { --ink: #1c2430; --quiet: #5b6675; --line: #dde2e8; --paper: #ffffff; }
* { box-sizing: border-box; }
body { margin: 0; background: #f3f5f8; color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1240px; margin: 24px auto; padding: 26px 30px 36px; background: var(--paper);
  border: 1px solid var(--line); border-radius: 8px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 2px; }
h2 { font-size: 18px; margin: 32px 0 8px; }
p { margin: 6px 0; max-width: 78ch; }
ul { margin: 6px 0; padding-left: 22px; }
li { margin: 3px 0; }
a { color: #0058a3; }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.quiet, figcaption { color: var(--quiet); font-size: 14px; }
.answer { font-size: 17px; line-height: 1.7; max-width: none; margin: 16px 0;
  padding: 14px 18px; background: #f3f5f8; border-left: 4px solid #33475b; }
.warning { margin: 12px 0; padding: 10px 18px; background: #fff7e6;
  border-left: 4px solid #b7791f; }
.warning details { margin-top: 6px; } .warning summary { font-size: 14px; font-weight: 400; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; }
th { text-align: left; font-weight: 600; color: var(--quiet); vertical-align: bottom;
  border-bottom: 2px solid var(--line); padding: 5px 8px; }
td { border-bottom: 1px solid var(--line); padding: 4px 8px; }
:is(#cells, #beside, #published) :is(td, th) { padding-left: 4px; padding-right: 4px; }
#cells code { font-size: 12px; }
#cells td, #beside td { white-space: nowrap; }
small { display: block; font-size: 12px; color: var(--quiet); white-space: nowrap; }
tbody tr:hover { background: #f7f9fb; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 10px 0 22px; }
img { max-width: 100%; height: auto; display: block; }
.verdict { display: inline-block; white-space: nowrap; padding: 0 8px; border-radius: 10px;
  border: 1px solid; font-size: 13px; line-height: 20px; font-weight: 600; }
.verdict.helped { color: #004a80; background: #e3f0fa; border-color: #0072b2; }
.verdict.hurt { color: #8a3400; background: #fdebdf; border-color: #d55e00; }
.verdict.unchanged { color: #3d4753; background: #eef1f4; border-color: #8b96a3; }
.verdict.cannot-tell { color: #3d4753; background: #ffffff; border: 1px dashed #8b96a3; }
.bar { display: block; }
.bar .zero { stroke: #9aa5b1; stroke-width: 1; stroke-dasharray: 2 2; }
.bar .span { stroke: #5b6675; stroke-width: 2; }
.bar circle { fill: #5b6675; }
.bar.helped .span { stroke: #0072b2; } .bar.helped circle { fill: #0072b2; }
.bar.hurt .span { stroke: #d55e00; } .bar.hurt circle { fill: #d55e00; }
details { margin-top: 28px; } td details { margin-top: 4px; }
td summary { font-size: 13px; font-weight: 400; }
#missing td { vertical-align: top; } #missing td:last-child { min-width: 46ch; }
summary { cursor: pointer; font-weight: 600; font-size: 16px; }
h3 { font-size: 14px; margin: 12px 0 4px; color: var(--quiet); }
pre { margin: 0; padding: 8px 12px; background: #f3f5f8; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, monospace; }
td.group { background: #f3f5f8; } td.type { padding-left: 22px; }
table.form { margin: 8px 0 4px; }
details.item { margin: 0; padding: 5px 0; border-bottom: 1px solid var(--line); }
details.item summary { font-size: 13.5px; font-weight: 400; }
details.item summary span { color: var(--quiet); }
@media print { body { background: #ffffff; } main { border: 0; margin: 0; padding: 0; } }
"""
"""Colours are Okabe and Ito's; each verdict also has its word and its sign."""
