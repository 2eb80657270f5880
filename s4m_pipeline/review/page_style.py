"""The pages' style sheet: light and dark, wide and narrow, no script and nothing fetched."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --panel: #f5f6f8; --ink: #1b1f24; --soft: #57606a; --rule: #d8dde3;
  --link: #0b57a4; --best: #dcefe3; --best-ink: #0b5b36; --warn: #8a5a00; --bad: #b42318;
  --c1: #0072b2; --c2: #e08a00; --c3: #8b949e; --c4: #00875f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --panel: #1d2127; --ink: #e6e9ed; --soft: #a3abb5; --rule: #363c45;
    --link: #7cb8f2; --best: #173a29; --best-ink: #8fe0b4; --warn: #e3b341; --bad: #ff8f85;
    --c1: #4ba3e3; --c2: #f0a63c; --c3: #7d8793; --c4: #3fbf8f;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2rem clamp(1rem, 3vw, 2.5rem) 3rem; max-width: 84rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
    "Liberation Sans", sans-serif;
}
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 .75rem; }
h3 { font-size: .95rem; margin: 0 0 .4rem; overflow-wrap: anywhere; }
p, ul.notes { max-width: 46rem; margin: 0 0 .75rem; overflow-wrap: anywhere; }
ul.notes { padding-left: 1.2rem; }
.soft, .note, figcaption, footer { color: var(--soft); }
.note { font-size: .9rem; margin-top: .5rem; }
.facts {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr));
  gap: .75rem; margin: 1.25rem 0 0; padding: 0;
}
.facts div { background: var(--panel); border-radius: .5rem; padding: .6rem .9rem .7rem; }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts dd { margin: 0; font-size: 1.35rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .95rem; }
th, td {
  padding: .4rem .9rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule);
}
th:first-child, td:first-child { padding-left: .2rem; }
thead th { color: var(--soft); font-weight: 600; font-size: .85rem; vertical-align: bottom; }
tbody th { font-weight: 500; }
.figure { text-align: right; font-variant-numeric: tabular-nums; }
tbody .figure { white-space: nowrap; }
.best { background: var(--best); color: var(--best-ink); font-weight: 700; }
.good { color: var(--best-ink); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.charts {
  display: grid; gap: 2rem 2.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
}
.charts h2 { margin-top: 0; font-size: 1.05rem; }
.charts section { max-width: 38rem; }
section.charts { margin-top: 2.5rem; }
svg { display: block; width: 100%; height: auto; font: 13px system-ui, Arial, sans-serif; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .tick, svg .label { fill: var(--soft); } svg .value { fill: var(--ink); }
svg .line { fill: none; stroke-width: 2.25; stroke-linejoin: round; stroke-linecap: round; }
svg .faint { fill: none; stroke-width: 1; opacity: .35; }
.s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); }
.s3 { stroke: var(--c3); } .s4 { stroke: var(--c4); }
.f1 { fill: var(--c1); } .f2 { fill: var(--c2); }
.f3 { fill: var(--c3); } .f4 { fill: var(--c4); }
.b1 { background: var(--c1); } .b2 { background: var(--c2); }
.b3 { background: var(--c3); } .b4 { background: var(--c4); }
.legend {
  display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; list-style: none; margin: 0 0 .6rem;
  padding: 0; font-size: .9rem;
}
.legend i {
  display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; margin-right: .4rem;
  vertical-align: -.08rem;
}
.row { margin: 0 0 1.75rem; scroll-margin-top: 1rem; }
.pictures { display: grid; gap: .75rem; }
.pictures figure { margin: 0; min-width: 0; }
.pictures img { display: block; width: 100%; height: auto; border-radius: .3rem; }
figcaption { font-size: .85rem; line-height: 1.35; margin-top: .3rem; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); font-weight: 600; }
.none {
  aspect-ratio: 1; display: grid; place-items: center; background: var(--panel);
  color: var(--soft); border-radius: .3rem; font-size: .85rem;
}
.close { display: none; }
.zoom:target {
  position: fixed; inset: 0; z-index: 10; padding: 1rem; background: var(--paper);
  display: grid; place-items: center; overflow: auto;
}
.zoom:target a:first-child { width: 100%; }
.zoom:target img { width: 100%; height: calc(100vh - 3rem); object-fit: contain; }
.zoom:target .close {
  display: block; position: fixed; top: .6rem; right: 1rem; padding: .3rem .8rem;
  background: var(--panel); color: var(--link); border-radius: .4rem;
}
@media (max-width: 40rem) {
  .pictures { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; gap: .6rem; }
  .pictures figure:first-child:nth-last-child(odd) { grid-column: 1 / -1; }
  th, td { padding: .35rem .55rem; }
}
.hidden {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}
footer { margin-top: 3rem; font-size: .85rem; }
@media print { .row { break-inside: avoid; } }
"""
