"""The page's style sheet: one for light and dark, wide and narrow."""

from __future__ import annotations

from hw_targets.app.report.canvas import THEME


def style_sheet() -> str:
    """CSS; `data-theme` on the root element overrides what the reader's system prefers."""
    light = "".join(f"--{name}:{colour};" for name, (colour, _) in THEME.items())
    dark = "".join(f"--{name}:{colour};" for name, (_, colour) in THEME.items()) + DARK_PAGE
    return (
        f":root{{color-scheme:light dark;{light}{LIGHT_PAGE}}}\n"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}\n{RULES}"
    )


LIGHT_PAGE = "--page:#ffffff;--card:#f7f9fb;--good:#1a7f4b;--bad:#b42318;"
DARK_PAGE = "--page:#12171c;--card:#1a2128;--good:#4cc38a;--bad:#ff8a7a;"
RULES = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:1120px;margin:0 auto;padding:2rem 1rem 3rem}
h1{font-size:1.8rem;line-height:1.2;margin:0 0 .4rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2rem 0 .7rem}
h3{font-size:1rem;margin:0 0 .1rem;overflow-wrap:anywhere}
p{margin:.3rem 0 .7rem}
.lead{font-size:1.1rem;max-width:46rem}
.note,figcaption p,small{color:var(--muted);font-size:.85rem}
small{display:block;font-weight:normal;overflow-wrap:anywhere}
.scroll{overflow-x:auto;border:1px solid var(--grid);border-radius:8px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.45rem .7rem;text-align:left;vertical-align:top;border-top:1px solid var(--grid)}
thead th{border-top:0;background:var(--card);color:var(--muted);font-weight:600;font-size:.85rem;vertical-align:bottom}
td.n,th.n{text-align:right;white-space:nowrap}
thead th.n{white-space:normal}
tbody th{font-weight:500;overflow-wrap:break-word}
thead button{all:unset;cursor:pointer;display:block;width:100%}
thead button:focus-visible{outline:2px solid var(--pruned);outline-offset:2px}
th[aria-sort] button::after{content:" ▲";font-size:.7em}
th[aria-sort=descending] button::after{content:" ▼"}
.layers{font-size:.9rem}
.total th,.total td{font-weight:650}
.energy td:last-child{min-width:20rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:.8rem;list-style:none;padding:0;
 margin:1.2rem 0 0}
.tiles li{background:var(--card);border:1px solid var(--grid);border-radius:10px;padding:.9rem 1rem}
.tiles b{display:block;font-size:1.7rem;line-height:1.25;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.tiles span{color:var(--muted);font-size:.85rem;display:block}
.left{margin:.3rem 0;padding-left:1.2rem}
.left li{margin:.25rem 0;overflow-wrap:anywhere}
.chain{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:.6rem;list-style:none;padding:0;margin:0}
.chain li{background:var(--card);border:1px solid var(--grid);border-radius:8px;padding:.6rem .8rem}
.chain b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}
.chain span{color:var(--muted);font-size:.85rem}
.verdict{border-left:5px solid var(--muted);background:var(--card);border-radius:4px;padding:.7rem 1rem}
.verdict p{margin:0}
.verdict+.verdict{margin-top:.6rem}
.verdict.good{border-color:var(--good)}
.verdict.bad{border-color:var(--bad)}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,460px),1fr));gap:1rem;align-items:start;
 margin-bottom:1rem}
figure{margin:0;background:var(--card);border:1px solid var(--grid);border-radius:8px;padding:.8rem .9rem;min-width:0}
figure svg{display:block;width:100%;max-width:560px;height:auto;margin:0 auto}
figure svg text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif!important}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:0 0 .8rem;padding:0;list-style:none;font-size:.9rem}
.legend li{overflow-wrap:anywhere}
.legend svg{width:.8rem;height:.8rem;margin-right:.4rem}
details{margin:.8rem 0}
summary{cursor:pointer;margin-bottom:.6rem}
@media (max-width:560px){
 main{padding:1.2rem .7rem 2rem}
 h1{font-size:1.45rem}
 th,td{padding:.4rem .45rem}
 .layers td,.layers th,.energy td,.energy th{font-size:.85rem}
 .tiles{grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:.5rem}
 .tiles li{padding:.6rem .7rem}
 .tiles b{font-size:1.35rem}
 figure{padding:.6rem .5rem}
}
@media print{figure,tr{break-inside:avoid}}
"""
