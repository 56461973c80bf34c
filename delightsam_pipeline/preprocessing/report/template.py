"""The page that a report is put into: a small style sheet, no script, nothing from outside."""

from __future__ import annotations

from string import Template

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="inputs" content="$digest">
<title>$title</title>
<style>
:root {
  color-scheme: light dark;
  --text: #1c1c1c; --quiet: #5d5d5d; --page: #fff; --line: #ccc; --soft: #f3f3f3;
  --bar: #4a7fb0; --mark: #b3261e; --rest: #e3e3e3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e6e6e6; --quiet: #a6a6a6; --page: #161616; --line: #444; --soft: #222;
    --bar: #6ea3d4; --mark: #ff8a80; --rest: #333;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .2rem; overflow-wrap: anywhere; }
h4 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
p { margin: .3rem 0; max-width: 46rem; overflow-wrap: anywhere; }
code { overflow-wrap: anywhere; }
nav a { margin-right: .8rem; }
a { color: inherit; }
.notice { border-left: 4px solid var(--mark); padding: .2rem .8rem; background: var(--soft); }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .92rem; }
caption { text-align: left; font-weight: 600; padding: .2rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); }
td { overflow-wrap: break-word; min-width: 4rem; }
dl { margin: .5rem 0; }
dt { font-weight: 600; margin-top: .7rem; }
dd { margin: 0 0 0 1rem; }
dd.reason { color: var(--quiet); }
.row { display: flex; flex-wrap: wrap; gap: 8px 10px; margin: .5rem 0; align-items: flex-start; }
.charts { display: flex; flex-wrap: wrap; gap: 12px 16px; }
.wide { flex: 1 1 100%; }
figure { margin: 0; max-width: 100%; break-inside: avoid; }
figcaption { font-size: .85rem; color: var(--quiet); }
.chart figcaption { color: var(--text); font-weight: 600; }
svg { display: block; max-width: 100%; height: auto; overflow: visible; }
svg text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: currentColor; }
svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
svg .unit { fill: var(--quiet); }
svg .axis { stroke: var(--quiet); }
svg .bar { fill: var(--bar); }
svg .rest { fill: var(--rest); }
svg .filled { fill: var(--rest); stroke: var(--quiet); }
svg path.line { fill: none; stroke: var(--bar); stroke-width: 2; }
svg line.line { stroke: var(--text); stroke-width: 2; }
svg .band { fill: var(--bar); opacity: .45; }
svg .rug { stroke: var(--bar); }
svg .key { fill: var(--bar); font-weight: 600; }
svg .key.filled { fill: var(--quiet); stroke: none; }
svg line.mark { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 4 3; }
svg text.mark { fill: var(--mark); }
svg .plot { fill: #1d1d1d; }
svg .curve { fill: none; stroke-width: 2; }
svg .level { stroke: #aaa; stroke-dasharray: 2 3; }
svg text.on-plot { fill: #ccc; }
svg .on-plot.mark { stroke: #ff8a80; }
.picture { background: #000; overflow: hidden; }
.picture use { fill: none; stroke-width: 1.4; stroke-linecap: square; }
.picture use.under { stroke: #000; stroke-opacity: .55; stroke-width: 2.8; }
.picture rect { fill: none; }
.picture .tile { stroke: #fff; stroke-opacity: .5; stroke-width: .8; }
.picture .first { stroke: #f0e442; stroke-opacity: 1; stroke-width: 2.5; }
.picture .padding { stroke: #56b4e9; stroke-dasharray: 5 4; stroke-width: 1.5; }
.picture .letter { fill: #fff; font-weight: 600; font-size: 12px; paint-order: stroke; stroke: #000;
  stroke-width: 3px; }
.bar-under { stroke: #000; stroke-width: 5; }
.scale-bar { stroke: #fff; stroke-width: 2.5; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; margin: .5rem 0; }
.swatch { display: inline-block; width: 1.6em; height: .8em; margin-right: .4em; border: 1px solid #333; }
footer { margin-top: 2.5rem; color: var(--quiet); font-size: .85rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  .scroll { overflow: visible; }
  .row { flex-wrap: nowrap; break-inside: avoid; }
  .row figure { min-width: 0; }
  h2, h3, dt, article > p { break-after: avoid; }
}
</style>
</head>
<body>
$body
</body>
</html>
""")
