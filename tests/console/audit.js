// Faults of the page's structure, as texts; evaluated in the page by test_console_audit.py.
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

  // What speaks by itself: alarms, warnings, and what the reader moves a chart's cross-hair to.
  for (const e of all("[aria-live], [role=alert], [role=status], [role=log]")) {
    fault(!["banner", "say-polite", "say-now"].includes(e.id) && !e.matches("og-chart .reading"), `speaks: ${e.className}`);
  }

  // Contrast of text as drawn (WCAG 2.2, 1.4.3): 4.5, or 3 for 24 px and for 18.66 px bold.
  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const over = (top, ground) => top.rgb.map((c, i) => c * top.a + ground[i] * (1 - top.a));
  const groundOf = (e) => {
    if (!e) return [255, 255, 255];
    const own = parse(getComputedStyle(e).backgroundColor);
    return own.a === 1 ? own.rgb : over(own, groundOf(e.parentElement));
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const opacityOf = (e) => (e ? Number(getComputedStyle(e).opacity) * opacityOf(e.parentElement) : 1);
  let texts = 0;
  for (const e of all("body *")) {
    const own = [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== "");
    if (!own || e.closest(".unseen, .skip, noscript, script, title") || !e.checkVisibility()) continue;
    texts += 1;
    const style = getComputedStyle(e);
    const ink = parse(e.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const ground = groundOf(e);
    const drawn = over({ rgb: ink.rgb, a: ink.a * opacityOf(e) }, ground);
    const [low, high] = [luminance(drawn), luminance(ground)].sort((a, b) => a - b);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    const ratio = (high + 0.05) / (low + 0.05);
    fault(ratio < least, `contrast ${ratio.toFixed(2)}: ${e.className.baseVal ?? e.className} "${e.textContent.slice(0, 30)}"`);
  }
  fault(texts < 20, `only ${texts} texts were seen`);

  // Whatever the keyboard reaches shows that it has the focus.
  const held = document.activeElement;
  for (const e of all("a, button, summary, [tabindex]")) {
    if (e.tabIndex < 0 || !e.checkVisibility()) continue;
    e.focus({ preventScroll: true });
    const style = getComputedStyle(e);
    const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    fault(document.activeElement !== e || !seen, `focus is not seen: ${e.outerHTML.slice(0, 80)}`);
  }
  document.activeElement?.blur();
  held?.focus?.({ preventScroll: true });
  return faults;
})();
