// Faults of the page's structure, as texts; evaluated in the page by test_console_browser.py.
(() => {
  const faults = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const isNamed = (e) => (e.getAttribute("aria-label") || e.textContent || "").trim() !== "";
  const fault = (condition, text) => condition && faults.push(text);

  fault(all("h1").length !== 1, `${all("h1").length} h1`);
  let level = 1;
  for (const heading of all("main h1, main h2, main h3")) {
    const own = Number(heading.tagName[1]);
    fault(own > level + 1, `heading jumps to ${heading.textContent}`);
    level = own;
  }
  for (const e of all("a, button, summary, section, [role=group], [role=region], [role=img]")) {
    fault(!isNamed(e), `no name: ${e.outerHTML.slice(0, 80)}`);
  }
  for (const e of all("svg")) {
    fault(e.getAttribute("role") !== "img" && !e.closest("[aria-hidden=true]"), "svg neither labelled nor hidden");
  }
  for (const e of all("table")) {
    fault(!e.caption || !isNamed(e.caption), "table without caption");
    fault(e.querySelector("thead th:not([scope=col])"), "column head without scope");
    fault(!e.querySelector("tbody th[scope=row]"), `rows without head: ${e.caption?.textContent}`);
  }
  for (const e of all("og-chart")) {
    fault(!e.closest("figure").querySelector("details table, details .absent"), "chart without table");
  }
  const ids = all("[id]").map((e) => e.id);
  fault(new Set(ids).size !== ids.length, "ids repeat");
  fault(
    all("[tabindex]").some((e) => e.tabIndex > 0),
    "positive tabindex",
  );
  fault(document.title.trim() === "", "no title");
  const words = document.body.innerText;
  fault(/[a-z]+_[a-z]+/.test(words), "a bare key is shown");
  fault(/undefined|NaN|\[object/.test(words), "undefined, NaN or an object is shown");
  return faults;
})();
