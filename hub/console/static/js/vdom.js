// A small virtual DOM: pages are functions from state to a tree, and `patch` changes only what differs.
//
// Rules. Focus, open <details>, selection and running animations survive an update, because an element stays as long as
// its tag and key stay. Text is always a text node: nothing here parses HTML, so no value can become markup.
// Elements with a dash in their tag own their children; they are given data through properties (".model").

const SVG = "http://www.w3.org/2000/svg";
const vnodes = new WeakMap(); // element -> the vnode it shows

/** One vnode. Props: attributes; "onx" handlers; ".x" properties; "style" as an object; "key" for stable identity. */
export function h(tag, props, ...children) {
  const { key = null, ...rest } = props || {};
  return { tag, key, props: rest, children };
}

function flatten(list, out) {
  for (const item of list) {
    if (Array.isArray(item)) flatten(item, out);
    else if (item !== null && item !== undefined && item !== false && item !== true && item !== "") out.push(item);
  }
  return out;
}

function fits(node, vnode) {
  if (typeof vnode !== "object") return node.nodeType === 3;
  const shown = vnodes.get(node);
  return shown !== undefined && shown.tag === vnode.tag && shown.key === vnode.key;
}

/** Make the children of `parent` show `tree` (a vnode, text, or nested arrays of them). */
export function patch(parent, tree) {
  const wanted = flatten([tree], []);
  const keyed = new Map();
  const loose = [];
  for (const node of parent.childNodes) {
    const key = vnodes.get(node)?.key ?? null;
    if (key !== null) keyed.set(key, node);
    else loose.push(node);
  }
  let next = 0;
  let cursor = parent.firstChild;
  const kept = new Set();
  for (const vnode of wanted) {
    let node = null;
    if (typeof vnode === "object" && vnode.key !== null) {
      node = keyed.get(vnode.key) ?? null;
      if (node && (kept.has(node) || !fits(node, vnode))) node = null;
    } else {
      while (next < loose.length && node === null) {
        const candidate = loose[next++];
        if (fits(candidate, vnode)) node = candidate;
      }
    }
    if (node === null) node = create(vnode, parent);
    else update(node, vnode);
    kept.add(node);
    if (node === cursor) cursor = cursor.nextSibling;
    else parent.insertBefore(node, cursor);
  }
  for (const node of [...parent.childNodes]) if (!kept.has(node)) node.remove();
}

function create(vnode, parent) {
  if (typeof vnode !== "object") return document.createTextNode(String(vnode));
  const svg = vnode.tag === "svg" || parent.namespaceURI === SVG;
  const node = svg ? document.createElementNS(SVG, vnode.tag) : document.createElement(vnode.tag);
  setProps(node, {}, vnode.props);
  vnodes.set(node, vnode);
  if (!vnode.tag.includes("-")) patch(node, vnode.children);
  return node;
}

function update(node, vnode) {
  if (typeof vnode !== "object") {
    if (node.data !== String(vnode)) node.data = String(vnode);
    return;
  }
  const before = vnodes.get(node);
  setProps(node, before.props, vnode.props);
  vnodes.set(node, vnode);
  if (!vnode.tag.includes("-")) patch(node, vnode.children);
}

function setProps(node, before, after) {
  for (const name of Object.keys(before)) if (!(name in after)) setProp(node, name, null, before[name]);
  for (const [name, value] of Object.entries(after)) {
    if (value !== before[name] || name[0] === ".") setProp(node, name, value, before[name]);
  }
}

function setProp(node, name, value, before) {
  if (name[0] === ".") node[name.slice(1)] = value;
  else if (name.startsWith("on")) node[name] = value;
  else if (name === "style") setStyle(node, before || {}, value || {});
  else if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : String(value));
}

function setStyle(node, before, after) {
  for (const name of Object.keys(before)) if (!(name in after)) node.style.removeProperty(name);
  for (const [name, value] of Object.entries(after)) {
    if (before[name] !== value) node.style.setProperty(name, String(value));
  }
}
