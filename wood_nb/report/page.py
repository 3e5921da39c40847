"""The page: one HTML file that anyone can open, offline, in ten years, with its style, its one script and its policy"""

import base64
import hashlib
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any, NamedTuple

from ..base.charts import CHARTS, colours
from ..base.html import Html, tag


_SCRIPT = """for (const table of document.querySelectorAll("table.sort"))
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const sign = head.getAttribute("aria-sort") === "descending" ? 1 : -1, body = table.tBodies[0];
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
      const value = row => row.cells[column].dataset.value, text = row => row.cells[column].textContent;
      const number = row => value(row) === "" ? -Infinity : Number(value(row));
      const order = (a, b) => value(a) === undefined ? -text(a).localeCompare(text(b)) : number(a) - number(b);
      body.append(...[...body.rows].sort((a, b) => sign * order(a, b)));
    };
  });
"""


STYLE = colours(".wood") + CHARTS + """\
.wood{background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,sans-serif;margin:0;
font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
.wood *{box-sizing:border-box} .wood main,.wood header,.wood footer{max-width:1080px;margin:0 auto;padding:0 20px}
.wood header{padding-top:44px} .wood h1{font-size:clamp(26px,4.2vw,38px);line-height:1.18;letter-spacing:-.02em;
margin:6px 0 12px;max-width:26em}
.wood h2{font-size:23px;letter-spacing:-.01em;margin:0 0 6px} .wood h3{font-size:16px;margin:26px 0 6px}
.wood p{margin:6px 0 12px;max-width:46em}
.wood .soft,.wood figcaption,.wood caption{color:var(--soft);font-size:14px} .wood a{color:var(--s0)}
.wood code{font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.wood nav{position:sticky;top:0;z-index:2;background:var(--ground);border-bottom:1px solid var(--line);
margin-top:22px}
.wood nav ul{max-width:1080px;margin:0 auto;padding:9px 20px;display:flex;gap:2px 18px;overflow-x:auto;
list-style:none;white-space:nowrap}
.wood nav a{color:var(--soft);text-decoration:none;font-size:14px} .wood nav a:hover{color:var(--s0)}
.wood section{background:var(--paper);border:1px solid var(--line);border-radius:14px;padding:24px 26px 26px;
margin:22px 0;scroll-margin-top:52px}
.wood .skip{position:absolute;left:-999px}
.wood .skip:focus{left:12px;top:8px;background:var(--paper);padding:8px;z-index:3}
.wood :focus-visible{outline:3px solid var(--s0);outline-offset:2px;border-radius:3px}
.wood img{max-width:100%;height:auto;display:block}
.wood footer{color:var(--soft);font-size:14px;padding-bottom:50px} .wood figure{margin:0}
"""


STYLE += """\
.wood .cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:16px;margin:16px 0}
.wood .card{background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:16px 18px}
.wood .fit{grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr))} .wood .text{flex:1 1 340px}
.wood section .card{background:none;padding:12px 14px}
.wood .charts{display:flex;flex-wrap:wrap;gap:18px 28px;align-items:flex-start}
.wood .charts>figure,.wood .charts>svg{flex:0 1 450px;min-width:min(100%,300px)} .wood .charts svg{width:100%}
.wood .big{font-size:30px;font-weight:650;letter-spacing:-.02em;line-height:1.25} .wood .up{color:var(--gain)}
.wood .down{color:var(--loss)}
.wood .warn{border-left:4px solid var(--loss);padding-left:12px}
.wood details>summary{cursor:pointer;color:var(--s0);font-size:15px;margin:12px 0}
.wood ul.plain{padding-left:20px;max-width:48em} .wood li{margin:5px 0}
.wood .scroll{overflow-x:auto;margin:12px 0}
.wood table{border-collapse:collapse;font-size:14.5px;min-width:min(100%,420px)}
.wood caption{text-align:left;caption-side:bottom;padding-top:8px;white-space:normal}
.wood caption span{display:block;position:sticky;left:0;max-width:min(56em,calc(100vw - 60px))}
.wood th,.wood td{padding:5px 12px;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap;
vertical-align:top}
.wood td.wide,.wood .wide td{white-space:normal;min-width:18em}
.wood .wrap td:last-child{white-space:normal;min-width:18em}
.wood thead th{color:var(--soft);font-weight:600;border-bottom-color:var(--soft)}
.wood tbody th,.wood tfoot th{font-weight:500}
.wood tfoot td,.wood tfoot th{border-top:1px solid var(--soft);font-weight:650} .wood .n{text-align:right}
.wood thead button{all:unset;cursor:pointer} .wood thead button:focus-visible{outline:3px solid var(--s0)}
.wood thead button::after{content:" ↕";opacity:.4}
.wood [aria-sort=descending] button::after{content:" ↓";opacity:1}
.wood [aria-sort=ascending] button::after{content:" ↑";opacity:1}
.wood .bar{position:relative;display:inline-block;min-width:150px;padding:0 6px}
.wood .bar b{position:relative;font-weight:500}
.wood .bar span{position:absolute;left:0;top:0;bottom:0;background:var(--s0);opacity:.22;border-radius:3px}
"""


STYLE += """\
.wood .row{margin:16px 0 24px} .wood .row>div{display:grid;
grid-template-columns:repeat(auto-fit,minmax(min(46%,150px),1fr));gap:8px}
.wood .row img,.wood .card img{width:100%;border-radius:6px}
.wood .row figcaption{margin-bottom:6px;color:var(--ink)}
.wood .row small,.wood .card small{display:block;color:var(--soft);font-size:13px;margin-top:3px;line-height:1.4}
.wood .chip{display:inline-block;width:.8em;height:.8em;border-radius:3px;margin-right:.45em;vertical-align:-.05em;
border:1px solid var(--soft)}
.wood dl{display:grid;grid-template-columns:auto 1fr;gap:2px 16px;font-size:14.5px;margin:8px 0;align-content:start}
.wood dt{color:var(--soft)} .wood dd{margin:0;overflow-wrap:anywhere}
.wood ol.flow{display:flex;flex-wrap:wrap;gap:10px;list-style:none;padding:0;margin:14px 0}
.wood ol.flow li{border:1px solid var(--line);border-radius:10px;padding:8px 14px;margin:0;min-width:104px}
.wood ol.flow b{display:block;font-size:21px}
.wood ol.flow li span{color:var(--soft);font-size:13.5px}
.wood figure.map>div{overflow-x:auto} .wood figure.map svg{width:100%;min-width:920px;height:auto}
@media print{.wood nav,.wood .skip{display:none} .wood section{break-inside:auto;border:0;padding:0}
.wood .row,.wood .card{break-inside:avoid}}
@media (min-width:641px){.wood .many{font-size:13.5px} .wood .many :is(th,td){padding:5px 6px}
.wood .many :is(thead,tbody) th{white-space:normal;vertical-align:bottom} .wood .many tbody th{min-width:8em;vertical-align:top}}
@media (max-width:640px){.wood section{padding:18px 16px}
.wood main,.wood header,.wood footer{padding-left:12px;padding-right:12px}
.wood section{padding-left:12px;padding-right:12px} .wood th,.wood td{padding:5px 7px}
.wood table:not(.many) :is(th,td){white-space:normal} .wood .bar{min-width:84px}
.wood .many thead{position:absolute;left:-9999px} .wood .many,.wood .many :is(tbody,tfoot,caption){display:block}
.wood .many tr{display:grid;grid-template-columns:1fr 1fr;gap:0 14px;padding:8px 0;border-bottom:1px solid var(--line)}
.wood .many tr>*{display:flex;justify-content:space-between;gap:8px;border:0;padding:2px 0;white-space:normal;
min-width:0!important;overflow-wrap:anywhere} .wood .many td:nth-child(2n):last-child{grid-column:1/-1}
.wood .many tr>th{grid-column:1/-1;font-weight:650} .wood .many td{text-align:right}
.wood .many td::before{content:attr(data-column);color:var(--soft);text-align:left;flex:0 0 auto;max-width:60%}}
"""


def preview(*content: Any) -> Html:
    "Pieces of a page in its colours, for a notebook."
    return tag("div", tag("style", Html(STYLE)), tag("div", *content, style="padding:16px"), class_="wood")


class Section(NamedTuple):
    "A part of a page: its address in it, its title, its content."
    id: str
    title: str
    body: Any


def policy(script: str) -> str:
    "A content security policy: pictures and style from within the page, this one script, nothing else."
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return ("default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
            f"script-src 'sha256-{digest}'")


def _boxed(section: Section) -> Html:
    "A section of the page with its title."
    name = f"{section.id}-title"
    return tag("section", tag("h2", section.title, id=name), section.body, id=section.id, aria_labelledby=name)


def page(title: str, lead: Any, sections: Sequence[Section], foot: Any = None) -> str:
    "A whole HTML document: `lead` above, then one card per section; works offline, in light and dark, without script."
    meta = [tag("meta", charset="utf-8"), tag("meta", http_equiv="Content-Security-Policy", content=policy(_SCRIPT)),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"), tag("title", title),
            tag("style", Html(STYLE))]
    links = [tag("li", tag("a", section.title, href=f"#{section.id}")) for section in sections]
    parts = [tag("a", "Skip to the results", href="#main", class_="skip"), tag("header", lead),
             tag("nav", tag("ul", links), aria_label="Sections"), tag("main", map(_boxed, sections), id="main"),
             tag("footer", foot), tag("script", Html(_SCRIPT))]
    body = tag("body", parts, class_="wood")
    return f"<!DOCTYPE html>\n{tag('html', tag('head', meta), body, lang='en')}\n"


class _Outlets(HTMLParser):
    "Collects in `found` what a page would fetch, lead to, or run through a handler."
    ADDRESSES = ("src", "srcset", "href", "xlink:href", "action", "formaction", "poster", "data", "background")
    FRAMES = ("iframe", "object", "embed", "base", "link")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in ((name, value or "") for name, value in attrs):
            away = name in self.ADDRESSES and not value.startswith(("data:image/", "#"))
            if away or name.startswith("on") or "url(" in value or tag in self.FRAMES:
                self.found.append(f"{tag} {name}={value[:60]}")

    def handle_data(self, data: str) -> None:
        self.found += re.findall(r"url\(|@import", data) if self.get_starttag_text() == "<style>" else []


def leads_out(document: str) -> list[str]:
    "What in a page points outside of it or runs by itself: nothing, if it is one of ours."
    outlets = _Outlets()
    outlets.feed(document)
    return outlets.found
