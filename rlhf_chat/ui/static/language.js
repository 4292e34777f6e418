// Puts the window's own words into the browser's language. LANGUAGES is written in by chinese.py.
// What people and the model wrote is left alone: it stands inside the elements named in THEIRS.
(() => {
  const name = (navigator.language || 'en').slice(0, 2).toLowerCase(), table = LANGUAGES[name];
  if (!table) return;
  document.documentElement.lang = navigator.language;
  const THEIRS = '#bot .message, #bot .examples, #tab-compare:has(#asked .status-message:not(:empty)) .draft, #conversations .open, #conversations input, #asked, '
    + '#import-preview .name, #data .prompt, #data .text p, #data .comment, #attribution p, #rounds .theirs, #simulation-view .prompt, #simulation-view .text p, #versions .given, #versions .remark, '
    + 'textarea, script, style, code, pre';
  const patterns = [];
  for (const [from, to] of Object.entries(table)) {
    if (!from.includes('{}')) continue;
    const parts = from.split('{}').map(p => p.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    patterns.push([new RegExp('^' + parts.join('((?:[^:;·]|\\d:\\d){1,80}?)') + '$', 's'), to, from.length]);
  }
  // The one that says most itself comes first: "from {} · {}" before "{} Nov, {}".
  patterns.sort((one, other) => other[2] - one[2]);
  const known = new Map();
  const say = text => {
    const core = text.trim().replace(/\s+/g, ' ');
    if (!core || core.length > 400) return null;
    if (known.has(core)) return known.get(core);
    let out = Object.hasOwn(table, core) && !core.includes('{}') ? table[core] : null;
    // A whole sentence first, so that no pattern takes it for one of its blanks.
    const dot = core.indexOf('. ') + 1, lead = core.slice(0, dot);
    if (out === null && dot && Object.hasOwn(table, lead)) { const rest = say(core.slice(dot)); if (rest) out = table[lead] + rest; }
    if (out === null) for (const [from, to] of patterns) {
      const m = from.exec(core);
      if (m) { let i = 1; out = to.replace(/\{\}/g, () => { const part = m[i++]; return say(part) || part; }); break; }
    }
    // "Not served: why" and "Not saved. Why." are two sentences, "v1 · 3 Nov" two facts, each with its own entry.
    for (const [between, joint] of [[': ', '：'], ['. ', ''], [' · ', ' · ']]) {
      const at = out === null ? core.indexOf(between) : -1; if (at < 0) continue;
      const end = between === '. ' ? at + 1 : at, one = say(core.slice(0, end)), other = one && say(core.slice(at + between.length));
      if (other) out = one + joint + other;
    }
    if (known.size > 2000) known.clear();
    known.set(core, out); return out;
  };
  const theirs = node => { const e = node.nodeType === 1 ? node : node.parentElement; return !e || e.closest(THEIRS); };
  const text = node => {
    const was = node.nodeValue; if (!was || !/[a-z]/i.test(was)) return;
    const now = say(was);
    if (now !== null && now !== was && !theirs(node)) node.nodeValue = now;
  };
  // A menu shows its choice as the value of a box that cannot be typed in: what is read there is put into the
  // language, what scripts read stays as it was.
  const own = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value');
  const menu = input => {
    if (!input.readOnly || input.dataset.announced) return;
    input.dataset.announced = '1';
    let real = own.get.call(input);
    Object.defineProperty(input, 'value', {configurable: true, get: () => real, set: v => { real = v; own.set.call(input, say(String(v)) || v); }});
    input.value = real;
  };
  const NAMES = ['aria-label', 'title', 'placeholder'];
  const attributes = e => { for (const n of NAMES) {
    const was = e.getAttribute && e.getAttribute(n); if (!was) continue;
    const now = say(was); if (now !== null && now !== was && !(n === 'title' && theirs(e))) e.setAttribute(n, now);
  } };
  const walk = root => {
    if (root.nodeType === 3) return text(root);
    if (root.nodeType !== 1 || root.matches('script, style')) return;
    attributes(root); root.querySelectorAll('[aria-label], [title], [placeholder]').forEach(attributes);
    root.querySelectorAll('input[readonly]').forEach(menu); if (root.matches('input[readonly]')) menu(root);
    const all = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (all.nextNode()) text(all.currentNode);
  };
  const begin = () => {
    walk(document.body);
    new MutationObserver(changes => { for (const c of changes) {
      if (c.type === 'characterData') text(c.target);
      else if (c.type === 'attributes') attributes(c.target);
      else c.addedNodes.forEach(walk);
    } }).observe(document.body, {childList: true, characterData: true, attributes: true, attributeFilter: NAMES, subtree: true});
  };
  document.body ? begin() : document.addEventListener('DOMContentLoaded', begin);
})();
