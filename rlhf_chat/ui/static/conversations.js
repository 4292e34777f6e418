// The list of conversations, by day and filtered by what is searched: open, rename, delete.
// Text reaches the page through textContent only.
const text = window.rlhfText;
const button = (label, cls, shown, act) => {
  const b = document.createElement('button');
  b.type = 'button'; b.className = cls; b.textContent = shown; b.title = label;
  b.setAttribute('aria-label', label); b.onclick = act; return b;
};
const ask = (c, li) => {
  const q = document.createElement('span'); q.className = 'ask'; q.textContent = text('delete_chat_question');
  const yes = button(text('delete_chat'), 'yes', text('delete'), window.rlhfOnce(() => { trigger('select', {do: 'delete', id: c.id, value: c.id, index: 0}); draw(); }));
  const no = button(text('keep_chat'), 'no', text('keep'), draw);
  li.replaceChildren(q, yes, no); no.focus();
};
const rename = (c, li) => {
  const box = document.createElement('input'); box.value = c.title; box.maxLength = 80; box.className = 'naming';
  box.setAttribute('aria-label', text('chat_name'));
  let over = false;
  const end = keep => { if (over) return; over = true;
    if (keep && box.value.trim() && box.value !== c.title)
      trigger('select', {do: 'rename', id: c.id, title: box.value, value: c.id, index: 0});
    draw(); };
  box.onkeydown = e => {
    e.stopPropagation();
    if (e.isComposing) return;  // this Enter ends an input method's word, not the name
    if (e.key === 'Enter') end(true); if (e.key === 'Escape') end(false);
  };
  box.onblur = () => end(true);
  li.replaceChildren(box); box.focus(); box.select();
};
const item = c => {
  const li = document.createElement('li'); if (c.current) li.className = 'current';
  const open = button(c.title, 'open', c.title, () => {
    trigger('select', {do: 'open', id: c.id, value: c.id, index: 0});
    if (window.rlhfNarrow()) window.rlhfSidebar(false);
  });
  if (c.current) open.setAttribute('aria-current', 'true');
  li.append(open, button(text('rename_chat'), 'tool rename', '\u270e\ufe0e', () => rename(c, li)),
                  button(text('delete_chat_opener'), 'tool delete', '\u2715', () => ask(c, li)));
  return li;
};
// The day is the reader's own, by the clock of the browser.
const DAY = 86400000;
const midnight = d => new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime();
const group = at => {
  const then = new Date(at), days = Math.round((midnight(new Date()) - midnight(then)) / DAY);
  if (isNaN(days)) return text('earlier');
  if (days < 1) return text('today');
  if (days < 2) return text('yesterday');
  if (days <= 7) return text('previous_7_days');
  if (days <= 30) return text('previous_30_days');
  return then.toLocaleDateString(document.documentElement.lang || undefined, {month: 'long', year: 'numeric'});
};
const box = () => document.querySelector('#search input, #search textarea');
// What the last search found is kept: every other value comes without it.
let found = {words: '', hits: []};
const paint = () => {
  const v = props.value || {}, words = (box() ? box().value : '').trim().toLowerCase();
  if (v.words) found = {words: v.words.trim().toLowerCase(), hits: v.hits};
  const hits = new Set(found.words === words ? found.hits : []);
  const rows = (v.rows || []).filter(c => !words || hits.has(c.id) || c.title.toLowerCase().includes(words));
  const parts = []; let name = '', list = null;
  for (const c of rows) {
    if (group(c.at) !== name) {
      name = group(c.at);
      const h = document.createElement('h3'); h.textContent = name;
      list = document.createElement('ul'); list.setAttribute('aria-label', name); parts.push(h, list);
    }
    list.append(item(c));
  }
  if (!rows.length) {
    const p = document.createElement('p'); p.className = 'none';
    p.textContent = text(words ? 'no_chat_found' : 'no_chats');
    parts.push(p);
  }
  element.replaceChildren(...parts);
};
const draw = () => window.rlhfStay(element, paint);
const listen = () => { const b = box(); if (!b) return setTimeout(listen, 100); b.addEventListener('input', draw); };
// A reply's beginning and end must not tear a half-written name out of somebody's hands.
watch('value', () => { if (!element.querySelector('.naming, .ask')) draw(); });
draw(); listen();
