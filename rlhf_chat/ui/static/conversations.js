// The list of conversations, by day and filtered by what is searched: open, rename, pin, delete and undo that.
// Text reaches the page through textContent only.
const text = window.rlhfText;
const button = (label, cls, shown, act) => {
  const b = document.createElement('button');
  b.type = 'button'; b.className = cls; b.textContent = shown; b.title = label;
  b.setAttribute('aria-label', label); b.onclick = act; return b;
};
const tell = (c, what, more) => trigger('select', {do: what, id: c.id, value: c.id, index: 0, ...more});
const deleted = c => {
  const li = document.createElement('li'), told = document.createElement('span');
  li.className = 'gone'; told.className = 'told'; told.textContent = text('chat_deleted');
  li.append(told, button(text('undo_delete') + ': ' + c.title, 'undo', text('undo_delete'), () => tell(c, 'undo_delete')));
  setTimeout(draw, Math.max(0, c.until * 1000 - Date.now()) + 50); return li;
};
const rename = (c, li) => {
  const box = document.createElement('input'); box.value = c.title; box.maxLength = 80; box.className = 'naming';
  box.setAttribute('aria-label', text('chat_name'));
  let over = false;
  const end = keep => { if (over) return; over = true;
    if (keep && box.value.trim() && box.value !== c.title)
      tell(c, 'rename', {title: box.value});
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
  if (c.until) return deleted(c);
  const li = document.createElement('li'); if (c.current) li.className = 'current';
  const open = button(c.title, 'open', c.title, () => {
    tell(c, 'open');
    if (window.rlhfNarrow()) window.rlhfSidebar(false);
  });
  if (c.current) open.setAttribute('aria-current', 'true');
  if (snippets[c.id]) {
    const [before, hit, after] = snippets[c.id], p = document.createElement('p'), mark = document.createElement('mark');
    p.className = 'snippet'; mark.textContent = hit; p.append(before, mark, after); open.append(p);
  }
  li.append(open, button(text(c.pinned ? 'unpin_chat' : 'pin_chat'), 'tool pin', c.pinned ? '\u2605' : '\u2606', () => tell(c, 'pin', {pinned: !c.pinned})),
                  button(text('rename_chat'), 'tool rename', '\u270e\ufe0e', () => rename(c, li)),
                  button(text('delete_chat'), 'tool delete', '\u2715', window.rlhfOnce(() => tell(c, 'delete'))));
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
let found = {words: '', hits: []}, snippets = {};
const paint = () => {
  const v = props.value || {}, words = (box() ? box().value : '').trim().toLowerCase();
  if (v.words) found = {words: v.words.trim().toLowerCase(), hits: v.hits};
  const hits = found.words === words ? found.hits : [];
  snippets = Object.fromEntries(hits.filter(h => h.length > 1).map(([id, ...around]) => [id, around]));
  const ids = new Set(hits.map(h => h[0])), now = Date.now() / 1000;
  const rows = (v.rows || []).filter(c => (!c.until || c.until > now) && (!words || ids.has(c.id) || c.title.toLowerCase().includes(words)));
  const parts = []; let name = '', list = null;
  for (const c of rows) {
    const day = c.pinned ? text('pinned') : group(c.at);
    if (day !== name) {
      name = day;
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
watch('value', () => { if (!element.querySelector('.naming')) draw(); });
draw(); listen();
